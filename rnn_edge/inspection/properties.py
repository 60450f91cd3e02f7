"""What can be seen of a text at each of its characters, and how well a cell's activation foretells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rnn_edge.runtimes.arrays import Doubles, Floats

__all__ = ["PROPERTIES", "after_each", "explained"]


def _inside_quotes(text: str) -> list[int]:
    inside, found = 0, []
    for character in text:
        inside ^= character == '"'
        found.append(int(inside))
    return found


def _position_in_line(text: str) -> list[int]:
    position, found = 0, []
    for character in text:
        position = 0 if character == "\n" else position + 1
        found.append(position)
    return found


def _bracket_depth(text: str) -> list[int]:
    depth, found = 0, []
    for character in text:
        depth = max(0, depth + (character in "([{") - (character in ")]}"))
        found.append(depth)
    return found


def _indentation(text: str) -> list[int]:
    """Count the blanks that the line begins with, so far."""
    width, leading, found = 0, True, []
    for character in text:
        if character == "\n":
            width, leading = 0, True
        elif leading and character in " \t":
            width += 1
        else:
            leading = False
        found.append(width)
    return found


PROPERTIES: Mapping[str, Callable[[str], list[int]]] = {
    "inside quotes": _inside_quotes,
    "position in line": _position_in_line,
    "bracket depth": _bracket_depth,
    "indentation": _indentation,
}
"""From a text to a number for each of its characters, when that character has been read."""


def after_each(pieces: Sequence[str], values: Sequence[int]) -> Doubles:
    """Return what holds after each piece of a text, float64 (pieces,); before anything was read it is 0.

    values  one for each character of the joined pieces
    """
    ends = np.cumsum([len(piece) for piece in pieces])
    found: Doubles = np.array([0, *values], dtype=np.float64)[ends]
    return found


def explained(cells: Floats, values: Doubles) -> Doubles | None:
    """Return for each cell the share of the values' variance that a line through its activations explains, r².

    cells    float32 (tokens, cells)
    values   float64 (tokens,)
    returns  float64 (cells,), 0 for a cell that never changes; None where the values never do
    """
    wanted = values - values.mean()
    if not wanted.any():
        return None
    moving = cells.astype(np.float64) - cells.mean(axis=0, dtype=np.float64)
    total = (moving**2).sum(axis=0) * (wanted**2).sum()
    shares: Doubles = np.divide((wanted @ moving) ** 2, total, out=np.zeros(cells.shape[1]), where=total > 1e-12)
    return shares
