"""Compare a running Triton with the bundle's golden vectors: python check.py [HOST:PORT]."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput


def check(url: str) -> float:
    """Return the largest difference, over all golden sequences, read side by side and token by token."""
    golden = json.loads((Path(__file__).parent / "bundle" / "golden.json").read_text(encoding="utf-8"))
    client = InferenceServerClient(url)
    first = 1 + secrets.randbelow(2**62)  # nobody else's sequences
    sequences = {first + number: case["tokens"] for number, case in enumerate(golden["cases"])}
    logits = {}
    for place in range(max(map(len, sequences.values()))):
        for sequence, tokens in sequences.items():
            if place < len(tokens):
                given = InferInput("tokens", [1, 1], "INT64")
                given.set_data_from_numpy(np.array([[tokens[place]]], np.int64))
                answer = client.infer(
                    "{{name}}",
                    [given],
                    sequence_id=sequence,
                    sequence_start=place == 0,
                    sequence_end=place == len(tokens) - 1,
                )
                logits[sequence] = answer.as_numpy("logits")[0]
    differences = [
        np.abs(logits[sequence][case["best_tokens"]] - case["best_logits"]).max()
        for sequence, case in zip(sequences, golden["cases"], strict=True)
    ]
    worst = float(max(differences))
    if not worst <= golden["tolerance"]:
        sys.exit(f"the server computes other numbers: {worst:.1e} off, {golden['tolerance']} allowed")
    return worst


if __name__ == "__main__":
    print(f"the same as the bundle's golden vectors: worst error {check(*(sys.argv[1:] or ['localhost:8001'])):.1e}")
