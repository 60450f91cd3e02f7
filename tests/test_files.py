"""Files and directories are whole or not there, whatever happens while they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnn_edge.files import replace_directory, replace_file


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*"))


def test_a_file_is_replaced(tmp_path):
    place = tmp_path / "a"
    place.write_text("old")
    replace_file(place, lambda part: part.write_text("new"))
    assert place.read_text() == "new"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("interruption", [OSError, KeyboardInterrupt])
def test_an_interrupted_file_leaves_the_old_one(tmp_path, interruption):
    place = tmp_path / "a"
    place.write_text("old")

    def write(part: Path) -> None:
        part.write_text("half")
        raise interruption

    with pytest.raises(interruption):
        replace_file(place, write)
    assert place.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_directory_is_replaced_with_all_it_holds(tmp_path):
    place = tmp_path / "d"
    for number in (1, 2):
        with replace_directory(place) as part:
            (part / f"file{number}").write_text("x")
    assert names(tmp_path) == ["d", "file2"]


@pytest.mark.parametrize("interruption", [OSError, KeyboardInterrupt])
def test_an_interrupted_directory_leaves_the_old_one(tmp_path, interruption):
    place = tmp_path / "d"
    place.mkdir()
    (place / "old").touch()
    with pytest.raises(interruption), replace_directory(place) as part:
        (part / "half").touch()
        raise interruption
    assert names(tmp_path) == ["d", "old"]


def test_a_new_directory_that_fails_was_never_there(tmp_path):
    with pytest.raises(OSError, match="full"), replace_directory(tmp_path / "d"):
        raise OSError("full")
    assert names(tmp_path) == []
