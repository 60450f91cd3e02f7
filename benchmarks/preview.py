"""What scores in two stages cost trained models, and what they save: a table for docs/quantization.md.

python -m benchmarks.preview MODEL.pt...      # language models that remember the text they were not trained on
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.alternatives.ours import OURS
from benchmarks.tasks import suggesting
from rnn_edge.exporters import Exported, ExportOptions, export
from rnn_edge.modules import load_checkpoint
from rnn_edge.runtimes.bench import describe_machine, take_turns

ROUNDS, SECONDS, BATCHES = 9, 0.1, (1, 5)
FORMS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "fp32, preview int8": {"preview": "int8"},
    "fp32, preview int8 of rank 128": {"preview": "int8", "preview_rank": 128},
    "fp32, preview int8 of rank 64": {"preview": "int8", "preview_rank": 64},
    "fp32, preview fp32 of rank 64": {"preview": "fp32", "preview_rank": 64},
    "fp16, preview int8": {"precision": "fp16", "preview": "int8"},
    "int8": {"precision": "int8"},
    "int8, preview int8 of rank 64": {"precision": "int8", "preview": "int8", "preview_rank": 64},
    "int8, preview int8 of rank 128": {"precision": "int8", "preview": "int8", "preview_rank": 128},
}
HEAD = "| form | bundle, MB | recall@1, @3, @20 | log-prob error, median, 99 % | perplexity | 20 best, batch 1 | 5 |"


def main(paths: list[Path]) -> None:
    """Print a table for each model."""
    print(f"{describe_machine('onnxruntime', 'torch', 'numpy')}; one thread, {ROUNDS} rounds of {SECONDS} s each")
    for path in paths:
        source = load_checkpoint(path)
        spec, tokens = source.model.spec, source.held_out["tokens"].numpy()
        print(f"\n{path.stem}: {source.tokenizer.kind}, {spec.cell} {spec.num_layers}×{spec.hidden_size}, ", end="")
        print(f"{spec.vocab_size:,} tokens\n")
        print(HEAD, "| --- " * 7 + "|", sep="\n")
        with tempfile.TemporaryDirectory() as directory:
            exported = {
                name: export(source, Path(directory) / f"{number}.rnn", ExportOptions(max_loss=10, **options))
                for number, (name, options) in enumerate(FORMS.items())
            }
            runners = {name: OURS.open(each.path) for name, each in exported.items()}
            tasks: dict[tuple[str, int], Callable[[], object]] = {
                (name, batch): suggesting(runner, tokens[: batch * 64].reshape(batch, 64))
                for name, runner in runners.items()
                for batch in BATCHES
            }
            timed = take_turns(tasks, rounds=ROUNDS, seconds=SECONDS)
        for name, each in exported.items():
            ratios = [timed[name, batch].over(timed["fp32", batch]).median for batch in BATCHES]
            times = [f"{timed[name, b].median:,.0f} µs ({r:.2f}×)" for b, r in zip(BATCHES, ratios, strict=True)]
            print(f"| {name} | {each.bytes / 1e6:.2f} | {_figures(each)} | {' | '.join(times)} |", flush=True)


def _figures(exported: Exported) -> str:
    """Return recall, error and the change of the perplexity, as cells."""
    found, quality = exported.recall, exported.quality
    change = "" if quality is None else f"{quality.perplexity_after:.2f} ({quality.loss:+.2%})"
    if found is None:
        return f"| | {change}"
    recall = f"{found.recall_at_1:.4f}, {found.recall_at_3:.4f}, {found.recall_at_20:.4f}"
    return f"{recall} | {found.log_prob_error_median:.1e}, {found.log_prob_error_p99:.1e} | {change}"


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]])
