"""What rounding costs trained models, in perplexity and in bytes: a table for docs/quantization.md.

python -m benchmarks.quality MODEL.pt...      # each remembers the text it was not trained on
"""

from __future__ import annotations

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from rnn_edge.errors import ExportError
from rnn_edge.exporters import ExportOptions, export
from rnn_edge.modules import load_checkpoint


def main(paths: list[Path]) -> None:
    """Print a row for each model and precision."""
    print(f"onnxruntime {version('onnxruntime')}, torch {version('torch')}\n")
    print("| model | parameters | precision | bundle, MB | perplexity | change | same first choice | KL, nats |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for path in paths:
        source = load_checkpoint(path)
        spec, parameters = source.model.spec, sum(each.numel() for each in source.model.parameters())
        name = f"{path.stem}: {source.tokenizer.kind}, {spec.cell} {spec.num_layers}×{spec.hidden_size}"
        for precision in ("fp32", "fp16", "int8", "int4"):
            with tempfile.TemporaryDirectory() as directory:
                options = ExportOptions(precision=precision, max_loss=10)
                try:
                    exported = export(source, Path(directory) / "model.rnn", options)
                except ExportError as error:
                    print(f"| {name} | {parameters:,} | {precision} | refused: {error} |")
                    continue
            row = f"| {name} | {parameters:,} | {precision} | {exported.bytes / 1e6:.2f} |"
            if exported.quality is None:
                print(f"{row} | | | |")
                continue
            quality = exported.quality
            print(
                f"{row} {quality.perplexity_after:.2f} | {quality.loss:+.2%} | {quality.top1_agreement:.1%} | "
                f"{quality.kl_divergence:.1e} |"
            )


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]])
