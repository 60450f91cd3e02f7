"""The documentation says what is so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from helpers import export_network

from rnn_edge.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_command_line_reference_is_what_help_says():
    """If this fails: python tools/cli_reference.py"""
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "tools" / "cli_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == module.reference()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_are_shown_exist(page):
    for line in re.findall(r"(?:^|`|[|&] )rnn-edge (\w+)([^`\n|#]*)", page.read_text(encoding="utf-8"), re.MULTILINE):
        name, rest = line
        assert name in main.commands, line
        flags = {
            flag for parameter in main.commands[name].params for flag in (*parameter.opts, *parameter.secondary_opts)
        }
        shown = re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)
        assert set(shown) <= flags | {"--help"}, line


def python_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_in_the_readme_runs(capsys):
    (code,) = python_of("README.md")
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_the_python_in_the_page_of_tasks_runs(capsys):
    for task in ("translate", "describe", "classify", "embed", "tag"):
        export_network(Path(f"{task}.rnn"), task, **({"attention": "general"} if task == "translate" else {}))
    names = {}
    for code in python_of("docs/tasks.md"):
        exec(compile(code, "tasks.md", "exec"), names)
        assert "print" not in code or capsys.readouterr().out
