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
    "MIN_P",
    "NOISE",
    "READOUT",
    "SCORES",
    "SEQUENCES",
    "TEMPERATURE",
    "TOKENS",
    "TOP_K",
    "TOP_P",
    "VECTORS",
    "next_state_name",
]

TOKENS, CHARACTERS, VECTORS = "tokens", "characters", "vectors"
LOGITS, ATTENTION, LABELS, LOG_PROB = "logits", "attention", "labels", "log_prob"
READOUT, MEMORY, MEMORY_KEYS, MEMORY_MASK = "readout", "memory", "memory_keys", "memory_mask"
MAX_NEW_TOKENS, LENGTH_PENALTY = "max_new_tokens", "length_penalty"
TEMPERATURE, TOP_K, TOP_P, MIN_P, NOISE = "temperature", "top_k", "top_p", "min_p", "noise"
SEQUENCES, SCORES = "sequences", "scores"


def next_state_name(name: str) -> str:
    """Return the output's name for a state's input name: `h` comes back as `next_h`."""
    return f"next_{name}"
