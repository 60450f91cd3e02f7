"""Size of a keyboard's language model as in Hard et al. 2018, with random weights: bytes of its graph by precision.

python -m benchmarks.keyboard
"""

from __future__ import annotations

from typing import get_args

from rnn_edge.bundle import Precision
from rnn_edge.exporters.graphs import build
from rnn_edge.exporters.weights import Plan
from rnn_edge.modules import LanguageModel
from rnn_edge.spec import LanguageModelSpec

SPEC = LanguageModelSpec(
    vocab_size=10_000, embedding_size=96, hidden_size=670, proj_size=96, tied=True, cell="lstm", coupled_gates=True
)


def main() -> None:
    """Print a line for each precision."""
    model = LanguageModel(SPEC).eval()
    print(f"{sum(each.numel() for each in model.parameters()):,} parameters")
    for precision in get_args(Precision):
        content = build(model, Plan(precision)).protos["step"].SerializeToString()
        print(f"{precision}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
