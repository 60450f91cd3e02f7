"""Drawings for the page, as SVG elements that stand in HTML; their colours and fonts are the page's."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rnn_edge.inspection.gates import CLOSED, OPEN, Gate

__all__ = ["decay", "saturation"]

_SIDE = 180  # of a square chart's inside
_WIDE = 620
_LEFT, _BOTTOM, _TOP = 46, 38, 10  # room for what stands on the axes


def saturation(gate: Gate, cells: Sequence[int]) -> str:
    """Draw a dot for each cell: to the right the more often its gate is closed, up the more often it is open.

    cells  the page's number of each
    """
    figures = zip(cells, gate.often_closed.tolist(), gate.often_open.tolist(), strict=True)
    dots = "".join(_dot(cell, *each) for cell, each in enumerate(figures, start=1))
    axes = _frame(_SIDE, _SIDE) + "".join(
        _label(_LEFT + share * _SIDE, _TOP + _SIDE + 14, f"{share:g}", "middle")
        + _label(_LEFT - 6, _TOP + (1 - share) * _SIDE + 4, f"{share:g}", "end")
        for share in (0, 0.5, 1)
    )
    never = f'<line class="grid" x1="{_LEFT}" y1="{_TOP}" x2="{_LEFT + _SIDE}" y2="{_TOP + _SIDE}"/>'
    middle = _TOP + _SIDE / 2
    named = (
        _label(_LEFT + _SIDE / 2, _TOP + _SIDE + 32, f"below {CLOSED:g}", "middle")
        + f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">above {OPEN:g}</text>'
    )
    title = f"{gate.name} gate, layer {gate.layer}"
    return _svg(_LEFT + _SIDE + 12, _TOP + _SIDE + _BOTTOM, title, axes + never + named + dots)


def _dot(cell: int, number: int, closed: float, opened: float) -> str:
    x, y = _LEFT + closed * _SIDE, _TOP + (1 - opened) * _SIDE
    told = f"<title>cell {cell}: closed {closed:.0%}, open {opened:.0%} of the time</title>"
    return f'<circle data-cell="{number}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">{told}</circle>'


def decay(norms: Sequence[float]) -> str:
    """Draw a line of positive numbers by their index, on a logarithmic scale.

    norms  by distance, from 0; what is 0 or no number is left out
    """
    points = [(at, math.log10(norm)) for at, norm in enumerate(norms) if norm > 0 and math.isfinite(norm)]
    if not points:
        return ""
    low, high = math.floor(min(y for _, y in points)), math.ceil(max(y for _, y in points))
    high = max(high, low + 1)
    last = max(len(norms) - 1, 1)

    def place(at: float, y: float) -> tuple[float, float]:
        return _LEFT + at / last * _WIDE, _TOP + (high - y) / (high - low) * _SIDE

    line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points)
    every = max(1, (high - low) // 5)
    lines = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _WIDE}" y1="{place(0, y)[1]:.1f}" y2="{place(0, y)[1]:.1f}"/>'
        + _label(_LEFT - 6, place(0, y)[1] + 4, f"1e{y}", "end")
        for y in range(low, high + 1, every)
    )
    ticks = "".join(
        _label(place(at, low)[0], _TOP + _SIDE + 14, str(at), "middle")
        for at in sorted({round(last * part / 4) for part in range(5)})
    )
    named = _label(_LEFT + _WIDE / 2, _TOP + _SIDE + 32, "tokens back", "middle")
    drawn = lines + ticks + named + _frame(_WIDE, _SIDE) + f'<polyline points="{line}"/>'
    return _svg(_LEFT + _WIDE + 16, _TOP + _SIDE + _BOTTOM, "norm of the gradient by distance", drawn)


def _svg(width: float, height: float, title: str, inside: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{title}">'
        f"{inside}</svg>"
    )


def _frame(width: int, height: int) -> str:
    return f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{width}" height="{height}"/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
