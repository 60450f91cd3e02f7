"""The page is one well-formed file that needs nothing else, and holds what was found."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from rnn_edge.bundle import Bundle
from rnn_edge.inspection import inspect, page_of
from rnn_edge.runtimes.load import BUILT_IN

TEXT = 'if a < b:\n    print("</script> & more", [1])\n'


class Reader(HTMLParser):
    """Collects the text and attributes of each element that is asked for, and checks that all are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict]] = []
        self.found: list[tuple[str, dict, str]] = []
        self.outside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.outside += [given[name] for name in ("src", "href") if name in given]
        if tag not in ("meta", "html"):
            self.open.append((tag, given))
            self.found.append((tag, given, ""))
            self.found[-1] = (tag, given, "")

    def handle_endtag(self, tag):
        if tag != "html":
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            tag, given = self.open[-1]
            index = max(place for place, each in enumerate(self.found) if each[1] is given)
            self.found[index] = (tag, given, self.found[index][2] + data)


@pytest.fixture(scope="module")
def inspection():
    return inspect(Bundle.read(BUILT_IN), TEXT)


@pytest.fixture
def page(inspection):
    return Reader(page_of(inspection, title="a <model>"))


def test_the_page_is_whole_and_needs_nothing_else(page, inspection):
    assert page.open == []
    assert page.outside == []
    assert "http" not in page_of(inspection, title="x")
    assert "{{" not in page_of(inspection, title="x")
    assert ("h1", {}, "a <model>") in page.found


def test_the_text_is_there_token_by_token(page, inspection):
    spans = [(given["data-token"], text) for tag, given, text in page.found if "data-token" in given]
    assert spans == [(str(place), piece) for place, piece in enumerate(inspection.pieces)]
    assert "".join(text for _, text in spans) == TEXT


def test_the_data_is_what_was_found(page, inspection):
    (content,) = [text for tag, given, text in page.found if given.get("id") == "data"]
    data = json.loads(content)
    cells = np.frombuffer(base64.b64decode(data["cells"]), np.int8).reshape(data["tokens"], len(data["names"]))
    np.testing.assert_allclose(cells / 127, inspection.cells, atol=0.5 / 127 + 1e-6)
    assert tuple(data["names"]) == inspection.names
    assert data["told"][0] is None
    assert data["told"][1:] == pytest.approx(inspection.told[1:].tolist(), abs=1e-4)
    assert [[text for text, _ in row] for row in data["guesses"]] == [
        [text for text, _ in row] for row in inspection.guesses
    ]


def test_rankings_and_the_tree_are_drawn(page, inspection):
    titles = [text for tag, _, text in page.found if tag == "h3"]
    assert titles == list(inspection.readings)
    buttons = [int(given["data-cell"]) for tag, given, _ in page.found if tag == "button"]
    assert buttons == [each.cell for readings in inspection.readings.values() for each in readings]

    def count(beams):
        return sum(1 + count(beam.children) for beam in beams)

    drawn = [given["class"] for tag, given, _ in page.found if tag == "span" and "class" in given]
    assert len(drawn) == count(inspection.beams)
    assert "best" in drawn


@pytest.mark.slow
def test_a_browser_shows_the_data(inspection):
    """Chromium runs the script: every cell is on offer, and tokens are coloured."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium or google-chrome")
    Path("page.html").write_text(page_of(inspection, title="x"))
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        Path("page.html").resolve().as_uri(),
    ]
    shown = Reader(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert sum(tag == "option" for tag, _, _ in shown.found) == len(inspection.names)
    assert all("rgba" in given["style"] for _, given, _ in shown.found if "data-token" in given)
