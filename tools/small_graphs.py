"""Write the graphs without weights, which serve every network; tests/runtimes/test_top_k.py holds the files to that.

python tools/small_graphs.py
"""

from __future__ import annotations

from pathlib import Path

import onnx.parser

DIRECTORY = Path(__file__).resolve().parent.parent / "rnn_edge" / "runtimes"

GRAPHS = {
    "top_k.onnx": """
<ir_version: 8, opset_import: ["" : 17]>
top_k (float[batch, vocab] logits, int64[1] k) => (int64[batch, best] tokens, float[batch, best] log_probs)
{
    all_log_probs = LogSoftmax <axis = -1> (logits)
    scores, tokens = TopK <axis = -1> (logits, k)
    log_probs = GatherElements <axis = -1> (all_log_probs, tokens)
}
""",
    "take_rows.onnx": """
<ir_version: 8, opset_import: ["" : 17]>
take_rows (float[layers, batch, width] state, int64[chosen] rows) => (float[layers, chosen, width] taken)
{
    taken = Gather <axis = 1> (state, rows)
}
""",
}


def graph(name: str) -> bytes:
    """Return a file's content."""
    return bytes(onnx.parser.parse_model(GRAPHS[name]).SerializeToString())


if __name__ == "__main__":
    for file in GRAPHS:
        (DIRECTORY / file).write_bytes(graph(file))
