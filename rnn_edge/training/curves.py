"""How a run went, as a picture and as TensorBoard events: both need other projects, and say so where they lack."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rnn_edge.errors import TrainingError
from rnn_edge.training.report import Finished, Progress

__all__ = ["check_curves", "draw_curves", "logged"]

Events = Generator[Progress | Finished, None, None]

_ENDINGS = (".png", ".svg", ".pdf")


def check_curves(path: Path) -> None:
    """Refuse, before any work is done, what no picture can be drawn to."""
    if path.suffix not in _ENDINGS or not path.parent.is_dir():
        raise TrainingError(
            f"cannot draw curves to {path}: name a file in a directory that exists, ending in {' or '.join(_ENDINGS)}"
        )
    _figure()


def draw_curves(curve: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw a run: what was learnt, how steep it was, how large the steps were.

    curve  as a checkpoint's history has it, a value for each look at held-out examples: `step`; `loss` and
           `gradient_norm`, means since the look before; `learning_rate`; `held_out`, what is least in the best model
    """
    figure = _figure()
    panels = figure.subplots(3, 1, sharex=True)
    for panel, names in zip(panels, (("loss", "held_out"), ("gradient_norm",), ("learning_rate",)), strict=True):
        for name in names:
            panel.plot(curve["step"], curve[name], marker=".", label=name.replace("_", " "))
        panel.legend()
        panel.grid(alpha=0.3)
    panels[1].set_yscale("log")
    panels[2].set_xlabel("step")
    figure.savefig(path)


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TrainingError(f"curves are drawn with matplotlib ({error}): pip install 'rnn-edge[plots]'") from error
    return Figure(figsize=(7, 8), layout="constrained")


def logged(events: Events, directory: Path) -> Events:
    """Return the same events, and write each as scalars for TensorBoard on its way."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            f"events are written by TensorBoard's package ({error}): pip install 'rnn-edge[plots]'"
        ) from error
    return _write(events, SummaryWriter(str(directory)))


def _write(events: Events, writer: Any) -> Events:
    with closing(events), closing(writer):
        for event in events:
            if isinstance(event, Progress):
                for name in ("loss", "gradient_norm", "learning_rate"):
                    writer.add_scalar(f"train/{name}", getattr(event, name), event.step)
                figures = event.held_out.to_dict() if event.held_out else {}
                for name, value in figures.items():
                    if isinstance(value, float | int):
                        writer.add_scalar(f"held_out/{name}", value, event.step)
            yield event
