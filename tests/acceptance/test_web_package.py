"""The web package in a real browser: the same numbers, tokens and suggestions as in Python, and a page that works."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from acceptance.browser import CHROMIUM, ONNXRUNTIME_WEB, phone, served
from helpers import foreign_bundle, tiny_bundle

from rnn_edge.packaging import package

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
    pytest.mark.skipif(
        not ONNXRUNTIME_WEB.exists(), reason="needs onnxruntime-web; RNN_EDGE_EMULATORS names where web/node_modules is"
    ),
]

# What this browser makes of every check, and how far it is from the golden vectors.
COMPARE = """async () => {
  const { load } = await import("./rnn-edge.js");
  const model = await load("model/");
  const checks = await (await fetch("checks.json")).json();
  const texts = checks.texts.map(({ text }) => {
    const [settled, pending] = model.tokenizer.encodeTyping(text);
    const tokens = model.tokenizer.encode(text);
    return { text, tokens, settled, pending, decoded: model.tokenizer.decode(tokens) };
  });
  const suggestions = [];
  for (const { text } of checks.suggestions) suggestions.push({ text, completions: await model.suggest(text) });
  return { distance: await model.selfTest(), texts, suggestions };
}"""


@pytest.fixture(scope="module")
def browser():
    with phone() as context:
        yield context


@pytest.fixture(scope="module")
def built_in(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("built-in") / "page"
    return package(None, path, "web", title="Python autocomplete", onnxruntime_web=ONNXRUNTIME_WEB)


def opened(browser, address: str):
    page = browser.new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.goto(address)
    page.wait_for_selector("textarea:enabled")
    return page


def assert_same(browser, folder: Path) -> None:
    with served(folder) as address:
        page = browser.new_page()
        page.goto(f"{address}model/manifest.json")  # an empty page of the same origin
        page.goto(address)
        found = page.evaluate(COMPARE)
        page.close()
    checks = json.loads((folder / "checks.json").read_text())
    tolerance = json.loads((folder / "model/golden.json").read_text())["tolerance"]
    assert found["distance"] <= tolerance
    assert found["texts"] == checks["texts"]
    for ours, theirs in zip(found["suggestions"], checks["suggestions"], strict=True):
        assert [each["text"] for each in ours["completions"]] == [each["text"] for each in theirs["completions"]]
        for one, other in zip(ours["completions"], theirs["completions"], strict=True):
            assert one["logProb"] == pytest.approx(other["log_prob"], abs=1e-3)


def test_the_built_in_model_says_what_it_says_in_python(browser, built_in):
    assert_same(browser, built_in)


@pytest.mark.parametrize(("kind", "cell"), [("characters", "gru"), ("words", "elman"), ("bpe", "lstm")])
def test_every_kind_of_tokenizer_and_cell_says_what_it_says_in_python(browser, kind, cell):
    tiny_bundle(Path("model.rnn"), kind, cell=cell, num_layers=2)
    assert_same(browser, package("model.rnn", "page", "web", onnxruntime_web=ONNXRUNTIME_WEB))


def test_another_project_s_characters_say_what_they_say_in_python(browser):
    foreign_bundle(Path("model.rnn"))
    assert_same(browser, package("model.rnn", "page", "web", onnxruntime_web=ONNXRUNTIME_WEB))


def test_typing_shows_suggestions_and_tab_or_a_tap_takes_one(browser, built_in):
    with served(built_in) as address:
        page = opened(browser, address)
        box = page.locator("textarea")
        box.press_sequentially("for i in ra")
        page.wait_for_function("document.querySelector('.rest').textContent.startsWith('nge(')")
        box.press("Tab")
        assert box.input_value().startswith("for i in range(")
        box.fill("if __name__ == ")
        button = page.locator(".suggestions button", has_text="__main__").first
        button.tap()
        assert "__main__" in box.input_value()
        assert re.search(r"· \d+\.\d ms a keystroke", page.inner_text(".status"))
        page.close()


def test_with_the_keyboard_one_can_take_a_suggestion_or_leave_it(browser, built_in):
    """Everything has a name and a role, and the text box holds nobody who wants to go on to the buttons."""
    with served(built_in) as address:
        page = opened(browser, address)
        assert page.get_by_role("status").inner_text() == "Golden vectors verified"
        box = page.get_by_role("textbox", name="Text to complete")
        box.press_sequentially("for i in ra")
        best = page.get_by_role("group", name="Suggestions").get_by_role("button").first
        best.filter(has_text="nge(").wait_for()
        box.press("Escape")
        assert page.locator(".rest").text_content() == ""
        box.press("Tab")
        assert best.evaluate("button => button === document.activeElement")
        best.press("Enter")
        assert box.input_value().startswith("for i in range(")
        assert box.evaluate("box => box === document.activeElement")
        assert page.get_by_role("status").inner_text() == "Golden vectors verified"  # not read out at each keystroke
        page.close()


def test_once_opened_the_page_needs_no_network(browser, built_in):
    with served(built_in) as address:
        page = opened(browser, address)
        page.evaluate("navigator.serviceWorker.ready")
        page.close()
    page = opened(browser, address)  # nothing serves it any more
    page.locator("textarea").press_sequentially("for i in ra")
    page.wait_for_function("document.querySelector('.rest').textContent.startsWith('nge(')")
    page.close()


def test_the_page_fits_a_narrow_phone(browser, built_in):
    """Nothing to scroll sideways, and buttons a thumb can hit."""
    with served(built_in) as address:
        page = opened(browser, address)
        page.set_viewport_size({"width": 320, "height": 568})
        page.locator("textarea").fill("def __init__(self, name, description, verbose_name_plural, maxi")
        page.wait_for_selector(".suggestions button")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        heights = page.eval_on_selector_all(".suggestions button", "all => all.map(one => one.offsetHeight)")
        assert min(heights) >= 44
        page.close()


def test_its_readme_s_code_suggests(browser, built_in):
    (code,) = re.findall(r"```js\n(.*?)```", (built_in / "README.md").read_text(), re.DOTALL)
    with served(built_in) as address:
        page = opened(browser, address)
        with page.expect_console_message() as message:
            page.add_script_tag(content=code, type="module")
        best = json.loads((built_in / "checks.json").read_text())["suggestions"][0]["completions"][0]
        text, probability = message.value.text.rsplit(" ", 1)
        assert (text, float(probability)) == (best["text"], pytest.approx(math.exp(best["log_prob"]), rel=1e-3))
        page.close()


def test_a_changed_file_is_refused(browser, built_in):
    with served(built_in) as address:
        page = browser.new_page()
        changed = (built_in / "model/tokenizer.json").read_bytes().replace(b"1.0", b"1.1", 1)
        page.route("**/tokenizer.json", lambda route: route.fulfill(body=changed))
        page.goto(address)
        page.wait_for_function("document.querySelector('.status').textContent.includes('sha256 differs')")
        assert page.locator("textarea").is_disabled()
        page.close()
