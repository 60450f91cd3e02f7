"""The page of `rnn-edge inspect` in a real browser. It also makes the picture in the docs.

RNN_EDGE_PICTURES=docs/images pytest -m slow tests/acceptance/test_inspect_page.py
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

pytest.importorskip("playwright")
pytest.importorskip("onnx")
pytest.importorskip("PIL")

from acceptance.browser import CHROMIUM, phone
from PIL import Image

from rnn_edge.bundle import Bundle
from rnn_edge.inspection import inspect, page_of
from rnn_edge.runtimes.load import BUILT_IN

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / os.environ["RNN_EDGE_PICTURES"] if "RNN_EDGE_PICTURES" in os.environ else Path()
DESKTOP = {"viewport": {"width": 1180, "height": 1400}, "device_scale_factor": 1, "is_mobile": False}


@pytest.fixture(scope="module")
def inspection():
    return inspect(Bundle.read(BUILT_IN), (ROOT / "rnn_edge/files.py").read_text())


@pytest.fixture
def page(inspection, request, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page_of(inspection, title="built-in model", reach=[1.0, 0.5, 0.1, 0.02]))
    with phone(**getattr(request, "param", DESKTOP)) as context:
        opened = context.new_page()
        opened.on("pageerror", lambda error: pytest.fail(str(error)))
        opened.on("request", lambda request: request.url.startswith("file:") or pytest.fail(request.url))
        opened.goto(path.as_uri())
        yield opened


def shown(page, token: int) -> float:
    """Return a token's activation by its colour: blue is above 0, red below."""
    colour = page.locator(f"[data-token='{token}']").evaluate("span => span.style.background")
    red, _, _, *strength = (float(number) for number in re.findall(r"[\d.]+", colour))
    return (-1 if red > 200 else 1) * (strength[0] if strength else 1) / 0.75


def test_the_text_is_coloured_by_the_cell_that_is_chosen(page, inspection):
    assert page.locator("#cell option").all_inner_texts() == list(inspection.names)

    def is_shown(name: str) -> bool:
        cell = inspection.names.index(name)
        assert page.locator("#cell").input_value() == str(cell)
        tokens = [3, 77, 300]
        return [shown(page, token) for token in tokens] == pytest.approx(inspection.cells[tokens, cell], abs=0.01)

    page.select_option("#cell", "c, layer 1, cell 222")
    assert is_shown("c, layer 1, cell 222")
    page.locator("circle").nth(6).click(force=True)
    assert is_shown("c, layer 1, cell 7")
    button = page.locator("#readings button").first
    button.click()
    assert is_shown(button.inner_text())
    assert button.get_attribute("aria-pressed") == "true"


def test_a_token_under_the_pointer_shows_what_was_expected(page, inspection):
    page.locator("[data-token='40']").hover()
    assert f"had probability {inspection.told[40]:.4f}"[:22] in page.locator("#told").inner_text()
    assert [float(row.split()[0]) for row in page.locator("#guesses div").all_inner_texts()] == pytest.approx(
        [chance for _, chance in inspection.guesses[40]], abs=1e-3
    )


@pytest.mark.parametrize("page", [DESKTOP, {}], indirect=True, ids=["desktop", "phone"])
def test_nothing_is_wider_than_the_screen(page):
    width, room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= room
    if room > 1000:
        take_picture(page)


def take_picture(page) -> None:
    """Keep what is above the beams."""
    page.locator("[data-token='77']").hover()
    box = page.locator("#of-gates").bounding_box()
    height = box["y"] + box["height"] + 16
    page.screenshot(path="page.png", clip={"x": 0, "y": 0, "width": DESKTOP["viewport"]["width"], "height": height})
    Image.open("page.png").convert("RGB").save(PICTURES / "inspect.webp", lossless=True, quality=100)
