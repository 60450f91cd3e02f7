"""The page is one well-formed file that needs nothing else, and holds what was found."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from html.parser import HTMLParser

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
    gates = [f"{gate.name} gate, layer {gate.layer}" for gate in inspection.gates]
    assert titles == [*inspection.readings, *gates]
    buttons = [int(given["data-cell"]) for tag, given, _ in page.found if tag == "button"]
    assert buttons == [each.cell for readings in inspection.readings.values() for each in readings]

    def count(beams):
        return sum(1 + count(beam.children) for beam in beams)

    drawn = [given["class"] for tag, given, _ in page.found if tag == "span" and given.get("class") in ("best", "held")]
    assert len(drawn) == count(inspection.beams)
    assert "best" in drawn


def test_each_gate_has_a_dot_for_each_cell_where_its_figures_are(page, inspection):
    dots = [given for tag, given, _ in page.found if tag == "circle"]
    cells = inspection.gates[0].values.shape[1]
    assert len(dots) == 3 * cells
    forget = dots[cells : 2 * cells]
    assert inspection.names[int(forget[5]["data-cell"])] == "c, layer 1, cell 6"
    left, top, side = 46, 10, 180
    shown = [[(float(dot["cx"]) - left) / side, 1 - (float(dot["cy"]) - top) / side] for dot in forget]
    gate = inspection.gates[1]
    np.testing.assert_allclose(shown, np.stack([gate.often_closed, gate.often_open], axis=1), atol=1e-3)


def test_without_gates_the_page_says_why(inspection):
    page = page_of(replace(inspection, gates=(), no_gates="it is an Elman network & has none"), title="x")
    assert "There is nothing to draw: it is an Elman network &amp; has none." in page
    assert "<circle" not in page


def test_how_far_an_error_reaches_is_drawn_where_it_was_measured(inspection):
    """From 1 down to a hundredth over four tokens, on a scale of two tens; zeros have no place on it."""
    assert "<polyline" not in page_of(inspection, title="x")
    page = Reader(page_of(inspection, title="x", reach=[1.0, 0.1, 0.0, 0.1, 0.01]))
    (line,) = [given["points"] for tag, given, _ in page.found if tag == "polyline"]
    assert line.split() == ["46.0,10.0", "201.0,100.0", "511.0,100.0", "666.0,190.0"]
    assert page.open == []
    assert "<polyline" not in page_of(inspection, title="x", reach=[0.0, float("nan")])
