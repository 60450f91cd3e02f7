"""Write rnn_edge/runtimes/top_k.onnx; tests/runtimes/test_top_k.py holds it to that.

python tools/top_k_graph.py
"""

from __future__ import annotations

from pathlib import Path

import onnx.parser

PATH = Path(__file__).resolve().parent.parent / "rnn_edge" / "runtimes" / "top_k.onnx"

GRAPH = """
<ir_version: 8, opset_import: ["" : 17]>
top_k (float[batch, vocab] logits, int64[1] k) => (int64[batch, best] tokens, float[batch, best] log_probs)
{
    all_log_probs = LogSoftmax <axis = -1> (logits)
    scores, tokens = TopK <axis = -1> (logits, k)
    log_probs = GatherElements <axis = -1> (all_log_probs, tokens)
}
"""


def graph() -> bytes:
    """Return the file's content."""
    return bytes(onnx.parser.parse_model(GRAPH).SerializeToString())


if __name__ == "__main__":
    PATH.write_bytes(graph())
