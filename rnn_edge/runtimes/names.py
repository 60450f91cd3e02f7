"""What graphs call their inputs and outputs: the contract of docs/bundle-format.md, with every app in any language."""

from __future__ import annotations

__all__ = [
    "ATTENTION",
    "CHARACTERS",
    "LABELS",
    "LENGTH_PENALTY",
    "LOGITS",
    "LOG_PROB",
    "MAX_NEW_TOKENS",
    "MEMORY",
    "MEMORY_KEYS",
    "MEMORY_MASK",
    "NOISE",
    "READOUT",
    "SCORES",
    "SEQUENCES",
    "TEMPERATURE",
    "TOKENS",
    "VECTORS",
    "next_state_name",
]

TOKENS, CHARACTERS, VECTORS = "tokens", "characters", "vectors"
LOGITS, ATTENTION, LABELS, LOG_PROB = "logits", "attention", "labels", "log_prob"
READOUT, MEMORY, MEMORY_KEYS, MEMORY_MASK = "readout", "memory", "memory_keys", "memory_mask"
MAX_NEW_TOKENS, LENGTH_PENALTY, TEMPERATURE, NOISE = "max_new_tokens", "length_penalty", "temperature", "noise"
SEQUENCES, SCORES = "sequences", "scores"


def next_state_name(name: str) -> str:
    """Return the output's name for a state's input name: `h` comes back as `next_h`."""
    return f"next_{name}"
