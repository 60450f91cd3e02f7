"""A bundle is read whole and unchanged, or refused with a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers import tiny_bundle

from rnn_edge.bundle import Bundle, Manifest
from rnn_edge.errors import BundleError

PATH = Path("model.rnn")


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    return tiny_bundle(PATH)


def edit(**changes: object) -> None:
    manifest = json.loads((PATH / "manifest.json").read_text())
    (PATH / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def test_a_bundle_survives(bundle):
    again = Bundle.read(PATH)
    assert again.manifest == bundle.manifest
    assert again.files == bundle.files
    assert again.tokenizer.to_json() == bundle.tokenizer.to_json()
    assert Manifest.from_dict(json.loads(json.dumps(again.manifest.to_dict(again.files)))) == again.manifest


def test_every_changed_byte_is_noticed(bundle):
    for name in bundle.files:
        content = (PATH / name).read_bytes()
        middle = len(content) // 2
        (PATH / name).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(BundleError, match=f"{name} was changed"):
            Bundle.read(PATH)
        (PATH / name).write_bytes(content)


def test_a_truncated_or_missing_file_is_named(bundle):
    content = (PATH / "model.onnx").read_bytes()
    (PATH / "model.onnx").write_bytes(content[:-1])
    with pytest.raises(BundleError, match=r"model.onnx has \d+ bytes and should have"):
        Bundle.read(PATH)
    (PATH / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model.onnx is missing"):
        Bundle.read(PATH)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..\\secret", "..", ""])
def test_a_name_that_points_outside_is_refused(bundle, name):
    Path("secret").write_text("x")
    edit(files={name: {"bytes": 1, "sha256": "x"}})
    with pytest.raises(BundleError, match="not a plain file name"):
        Bundle.read(PATH)


def test_a_link_out_of_the_bundle_is_refused(bundle):
    shutil.move(PATH / "model.onnx", "elsewhere.onnx")
    (PATH / "model.onnx").symlink_to(Path("elsewhere.onnx").resolve())
    with pytest.raises(BundleError, match=r"model.onnx is missing"):
        Bundle.read(PATH)


def test_a_graph_that_the_files_do_not_list_is_refused(bundle):
    files = json.loads((PATH / "manifest.json").read_text())["files"]
    del files["model.onnx"]
    edit(files=files)
    with pytest.raises(BundleError, match=r"does not list model.onnx"):
        Bundle.read(PATH)


def test_a_newer_format_asks_for_an_upgrade(bundle):
    edit(format=2)
    with pytest.raises(BundleError, match="has format 2; this rnn-edge reads up to 1: upgrade"):
        Bundle.read(PATH)


@pytest.mark.parametrize("change", [
    {"format": "1"}, {"format": True}, {"format": 0}, {"files": []}, {"graphs": {"step": {}}}, {"graphs": 3},
    {"spec": {}}, {"spec": None}, {"files": {"tokenizer.json": None}}, {"graphs": {"step": None}},
])  # fmt: skip
def test_a_damaged_manifest_is_refused(bundle, change):
    edit(**change)
    with pytest.raises(BundleError):
        Bundle.read(PATH)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b'"x"'])
def test_a_manifest_that_is_not_one_is_refused(bundle, content):
    (PATH / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError):
        Bundle.read(PATH)


def test_a_vocabulary_that_does_not_fit_is_refused(bundle):
    edit(spec={**bundle.manifest.spec.to_dict(), "vocab_size": 9})
    with pytest.raises(BundleError, match="and its network 9"):
        Bundle.read(PATH)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.touch(), lambda path: path.mkdir()])
def test_what_is_no_bundle_is_told_so(make):
    make(Path("other"))
    with pytest.raises(BundleError, match="is not a bundle"):
        Bundle.read(Path("other"))


def test_only_a_bundle_is_overwritten(bundle):
    Bundle.write(PATH, bundle.manifest, bundle.files)
    for path, words in [(Path("notes"), "something other than a bundle"), (Path("file"), "a file is there")]:
        if path.name == "notes":
            path.mkdir()
            (path / "diary.txt").touch()
        else:
            path.touch()
        with pytest.raises(BundleError, match=words):
            Bundle.write(path, bundle.manifest, bundle.files)
    assert Path("notes/diary.txt").exists()


def test_a_place_that_does_not_exist_is_named(bundle):
    with pytest.raises(BundleError, match=r"no directory no.such"):
        Bundle.write(Path("no/such/model.rnn"), bundle.manifest, bundle.files)


def test_a_full_disk_leaves_the_old_bundle(bundle, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BundleError, match="No space left on device; nothing there was changed"):
        Bundle.write(PATH, bundle.manifest, bundle.files)
    assert Bundle.read(PATH).files == bundle.files
    assert [path.name for path in Path().iterdir()] == ["model.rnn"]
