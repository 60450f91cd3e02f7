"""How sure a mean over a few seeds is."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

__all__ = ["over_seeds"]

_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}  # 97.5 %, by freedom


def over_seeds(values: Sequence[float], *, sign: str = "", digits: int = 2) -> str:
    """Return the mean of up to ten values, and half the width of its 95 % interval by Student's t."""
    mean = f"{fmean(values):{sign}.{digits}f}"
    if len(values) < 2:
        return f"{mean} (one seed)"
    freedom = len(values) - 1
    return f"{mean} ± {_T[freedom] * stdev(values) / len(values) ** 0.5:.{digits}f}"
