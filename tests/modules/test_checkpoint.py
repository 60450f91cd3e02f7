"""model.pt keeps everything, runs nothing, and says what is wrong with it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from helpers import tiny_checkpoint

from rnn_edge.errors import CheckpointError, TextError
from rnn_edge.modules import Checkpoint, load_checkpoint, save_checkpoint
from rnn_edge.modules.checkpoint import write_tensors


def saved(path: Path = Path("model.pt"), **changes) -> Path:
    return save_checkpoint(tiny_checkpoint(**changes), path)


def tampered(**changes) -> Path:
    """Return a checkpoint with some of its entries replaced."""
    content = torch.load(saved(), weights_only=True)
    write_tensors(Path("bad.pt"), {**content, **changes})
    return Path("bad.pt")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["characters", "words", "bpe"])
def test_a_checkpoint_survives(kind, tied):
    before = tiny_checkpoint(kind, tied=tied)
    before = Checkpoint(before.model, before.tokenizer, {"seconds": 3, "files": ["a.txt"]})
    after = load_checkpoint(save_checkpoint(before, Path("model.pt")))
    assert after.model.spec == before.model.spec
    assert after.history == before.history
    assert after.tokenizer.to_json() == before.tokenizer.to_json()
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], tensor)
    assert (after.model.embedding.weight is after.model.output.weight) == tied
    assert not after.model.training


def test_tied_weights_are_stored_once():
    assert saved(tied=True, hidden_size=12).stat().st_size < saved(Path("b.pt"), hidden_size=12).stat().st_size


def test_a_tokenizer_of_another_size_is_refused():
    one, other = tiny_checkpoint("bpe"), tiny_checkpoint("characters")
    with pytest.raises(TextError, match="do not belong together"):
        Checkpoint(one.model, other.tokenizer)


class Bomb:
    def __reduce__(self):
        return Path("exploded").touch, ()


def test_a_pickle_that_would_run_code_does_not():
    torch.save({"rnn_edge_checkpoint": 1, "spec": Bomb()}, "bomb.pt")
    Path("plain.pkl").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pt", "plain.pkl"):
        with pytest.raises(CheckpointError, match="could run code"):
            load_checkpoint(Path(name))
    assert not Path("exploded").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_named(share):
    content = saved().read_bytes()
    Path("cut.pt").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"cut\.pt"):
        load_checkpoint(Path("cut.pt"))


def test_a_missing_file_and_a_directory_are_named():
    for name in ("nowhere.pt", "."):
        with pytest.raises(CheckpointError, match="cannot read"):
            load_checkpoint(Path(name))


def test_a_foreign_file_is_told_from_a_checkpoint():
    torch.save(torch.nn.LSTM(2, 3).state_dict(), "foreign.pt")
    with pytest.raises(CheckpointError, match="lacks the spec and the tokenizer"):
        load_checkpoint(Path("foreign.pt"))
    torch.save([1, 2], "list.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_checkpoint(Path("list.pt"))


def test_a_newer_format_asks_for_an_upgrade():
    with pytest.raises(CheckpointError, match="upgrade rnn-edge"):
        load_checkpoint(tampered(rnn_edge_checkpoint=2))


def test_weights_that_do_not_fit_are_named():
    weights = torch.load(saved(), weights_only=True)["weights"]
    for changes, words in [
        ({"output.bias": torch.zeros(3)}, "output.bias should have shape"),
        ({"output.bias": weights["output.bias"].double()}, "should be float32"),
        ({"extra": torch.zeros(1)}, "extra is not part"),
    ]:
        with pytest.raises(CheckpointError, match=words):
            load_checkpoint(tampered(weights={**weights, **changes}))
    del weights["embedding.weight"]
    with pytest.raises(CheckpointError, match=r"embedding\.weight is missing"):
        load_checkpoint(tampered(weights=weights))


@pytest.mark.parametrize("entry", [{"weights": 3}, {"spec": None}, {"tokenizer": "{}"}, {"weights": {"a": "b"}}])
def test_damaged_entries_are_refused(entry):
    with pytest.raises(CheckpointError):
        load_checkpoint(tampered(**entry))


def test_a_vocabulary_that_does_not_fit_the_weights_is_refused():
    with pytest.raises(CheckpointError, match="do not belong together"):
        load_checkpoint(tampered(tokenizer=tiny_checkpoint("bpe").tokenizer.to_json()))


def test_huge_sizes_in_a_small_file_allocate_nothing():
    spec = {**tiny_checkpoint().model.spec.to_dict(), "hidden_size": 2**24, "num_layers": 64}
    with pytest.raises(CheckpointError, match="do not fit"):
        load_checkpoint(tampered(spec=spec))


def test_a_failed_write_leaves_the_old_file(monkeypatch):
    path = saved()
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="No space left"):
        saved()
    assert path.read_bytes() == before
    assert [each.name for each in Path().iterdir()] == ["model.pt"]


def test_a_place_that_does_not_exist_is_named():
    with pytest.raises(CheckpointError, match="cannot write"):
        saved(Path("no/such/place.pt"))


@pytest.mark.parametrize("tokens", [[0, 10_000], [-2, 0]])
def test_held_out_tokens_outside_the_vocabulary_are_refused(tokens):
    checkpoint = tiny_checkpoint()
    held_out = {"tokens": torch.tensor(tokens)}
    save_checkpoint(Checkpoint(checkpoint.model, checkpoint.tokenizer, {}, held_out), Path("model.pt"))
    with pytest.raises(CheckpointError, match="held-out tokens are outside the vocabulary"):
        load_checkpoint(Path("model.pt"))
