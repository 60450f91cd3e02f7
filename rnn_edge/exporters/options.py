"""What an export is asked for, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from rnn_edge.bundle import EarlyStopping, Precision, Preview, Strategy
from rnn_edge.errors import ExportError
from rnn_edge.exporters.contexts import ARCHITECTURES, QNN
from rnn_edge.exporters.graphs import OLDEST_OPSET
from rnn_edge.exporters.ort_format import TARGETS
from rnn_edge.runtimes.options import wrong_stopping
from rnn_edge.runtimes.providers import CPU, PROVIDERS, find

__all__ = ["ExportOptions"]

_MOST_BEAMS, _USUAL_BEAMS = 1_000, 5
_CANDIDATES = 32


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What a graph is to be like, and what it may cost."""

    precision: Precision | Literal["auto"] = "fp32"  # auto: the smallest that passes
    target: str = "cpu"  # the provider it is to run on, by its short name
    format: Literal["onnx", "ort"] = "onnx"  # of the graphs' files
    context: str | None = None  # an architecture of Qualcomm's NPU, for which the graph is compiled, too
    opset: int = OLDEST_OPSET
    atol: float = 1e-5  # how far a float may be from PyTorch's
    keep_float: tuple[str, ...] = ()  # matrices that are not rounded, by the names in the report
    calibration_text: str | None = (
        None  # text that an NPU's int8 is calibrated on; none means the end of the held-out tokens
    )
    eval_text: str | None = None  # what rounding is judged by; none means the checkpoint's own held-out examples
    max_loss: float = 0.01  # share by which rounding may raise the perplexity
    max_bytes: int | None = None  # of all files together
    embed: bool = False  # of a classifier, only the part that gives a text's vector
    preview: Literal["int8", "fp32"] | None = None  # of all scores, before the best few are scored exactly
    preview_rank: int | None = None  # of the preview; none means that of the output layer
    candidates: int | None = None  # that are scored exactly; none means 32, or 64 with a preview_rank
    decode: Strategy | None = None  # write a graph that searches by itself, too
    num_beams: int | None = None  # of its beam; none means 5
    num_return_sequences: int = 1  # of its beam
    narrowing: bool = False  # whether its beam loses a place for each hypothesis that ends
    early_stopping: EarlyStopping = False  # when num_beams have ended: True stops, False guesses, "never" makes sure

    def __post_init__(self) -> None:
        problems = []
        if self.precision not in (*get_args(Precision), "auto"):
            problems.append(f"precision must be fp32, fp16, int8, int4 or auto, got {self.precision!r}")
        if self.target not in PROVIDERS:
            problems.append(f"target must be one of {', '.join(PROVIDERS)}, got {self.target!r}")
        elif self.precision not in (*PROVIDERS[self.target].precisions, "auto"):
            suiting = ", ".join(PROVIDERS[self.target].precisions)
            problems.append(f"target {self.target} takes {suiting}, not {self.precision}")
        elif self.calibration_text is not None and not (
            find(self.target).activations and self.precision in ("int8", "auto")
        ):
            able = " and ".join(provider.name for provider in PROVIDERS.values() if provider.activations)
            problems.append(f"only int8 for {able} is calibrated: leave calibration_text out")
        if not 0 < self.atol < float("inf"):
            problems.append(f"atol must be a positive number, got {self.atol}")
        if not 0 <= self.max_loss < float("inf"):
            problems.append(f"max_loss must be a number from 0, got {self.max_loss}")
        if self.max_bytes is not None and self.max_bytes < 1:
            problems.append(f"max_bytes must be positive, got {self.max_bytes}")
        if self.context is not None and (self.target != QNN or self.context not in ARCHITECTURES):
            problems.append(
                f"a context is for target {QNN} and one of {', '.join(ARCHITECTURES)}, "
                f"not for target {self.target} and {self.context!r}"
            )
        problems += self._wrong_preview()
        problems += self._wrong_format()
        problems += self._wrong_search()
        if problems:
            raise ExportError("; ".join(problems))

    def _wrong_format(self) -> list[str]:
        if self.format not in ("onnx", "ort"):
            return [f"format must be onnx or ort, got {self.format!r}"]
        problems = []
        if self.format == "ort" and self.target not in TARGETS:
            problems.append(f"format ort is for the targets {', '.join(TARGETS)}, not {self.target}")
        if self.format == "ort" and self.precision in ("fp16", "auto"):
            problems.append(f"format ort stores halves as float32, and takes fp32, int8 or int4, not {self.precision}")
        if self.format == "ort" and self.preview is not None:
            problems.append("with a preview, format cannot be ort, in which its candidates are out of sight")
        return problems

    def _wrong_preview(self) -> list[str]:
        given = {"preview_rank": self.preview_rank, "candidates": self.candidates}
        if self.preview is None:
            return [
                f"{name} is for a preview only: choose one, or leave it out"
                for name in given
                if given[name] is not None
            ]
        problems = [
            f"{name} must be a whole number from 1, got {value!r}"
            for name, value in given.items()
            if value is not None and (type(value) is not int or value < 1)
        ]
        if self.preview not in ("int8", "fp32"):
            problems.append(f"preview must be int8 or fp32, got {self.preview!r}")
        if self.preview == "fp32" and self.preview_rank is None:
            problems.append("a preview in fp32 needs a preview_rank: without one it costs as much as the layer")
        if self.target != CPU.name:
            problems.append(f"a preview is for the target cpu, which web pages run too, not for {self.target}")
        if self.precision == "auto":
            problems.append("with a preview, precision cannot be auto: choose one")
        return problems

    def _wrong_search(self) -> list[str]:
        if self.decode not in (*get_args(Strategy), None):
            return [f"decode must be greedy, sample or beam, got {self.decode!r}"]
        if self.decode and self.target != CPU.name:
            return [f"decode is for the target cpu only, not {self.target}: leave one of the two out"]
        if self.decode != "beam":
            given = {"num_beams": self.num_beams is not None, "num_return_sequences": self.num_return_sequences != 1}
            given |= {"narrowing": self.narrowing, "early_stopping": self.early_stopping is not False}
            return [f"{name} is for decode='beam' only: leave it out" for name, is_given in given.items() if is_given]
        problems = []
        if not 1 <= self.search_width <= _MOST_BEAMS:
            problems.append(f"num_beams must be a whole number from 1 to {_MOST_BEAMS}, got {self.num_beams}")
        elif not 1 <= self.num_return_sequences <= self.search_width:
            problems.append(
                f"num_return_sequences must be from 1 to the {self.search_width} beams, got {self.num_return_sequences}"
            )
        if self.search_width == 1:
            problems += [
                f"{name} only matters with several beams: leave it out, or set num_beams"
                for name in ("narrowing", "early_stopping")
                if getattr(self, name) is not False
            ]
        if problem := wrong_stopping(self.early_stopping, narrowing=self.narrowing):
            problems.append(problem)
        return problems

    @property
    def stages(self) -> Preview | None:
        """How a network that writes scores its tokens, if not all exactly."""
        if self.preview is None:
            return None
        usual = _CANDIDATES if self.preview_rank is None else 2 * _CANDIDATES  # of low rank, it ranks less well
        return Preview(precision=self.preview, rank=self.preview_rank, candidates=self.candidates or usual)

    @property
    def search_width(self) -> int:
        """How many hypotheses a graph that searches by itself keeps."""
        if self.num_beams is None:
            return _USUAL_BEAMS if self.decode == "beam" else 1
        return self.num_beams
