"""An inspection as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files

import numpy as np

from rnn_edge.inspection.charts import decay, saturation
from rnn_edge.inspection.gates import Gate
from rnn_edge.inspection.look import Beam, Inspection

__all__ = ["page_of"]


_GATES = (
    "Each dot is a cell: to the right, the share of the text over which its gate is closed (below 0.1); upwards, over "
    "which it is open (above 0.9). In the corner at the bottom left it is always half open, on the dashed line never. "
    "A forget gate that is often open keeps its cell for long; a GRU keeps where its update gate is open."
)
_REACH = (
    "The norm of the gradient of a token's loss by the input so many tokens before it, averaged over the text: where "
    "the line has fallen low, no learning reaches."
)


def page_of(inspection: Inspection, *, title: str, reach: Sequence[float] = ()) -> str:
    """Return the page.

    Its data is JSON in a script element; activations are bytes of 127 × value, (tokens, cells), in base64.

    reach  norms of the gradient by distance, from 0, as `training.gradients` measures them
    """
    data = {
        "names": inspection.names,
        "tokens": len(inspection.pieces),
        "cells": base64.b64encode(np.rint(inspection.cells.clip(-1, 1) * 127).astype(np.int8).tobytes()).decode(),
        "guesses": [[[text, round(chance, 4)] for text, chance in row] for row in inspection.guesses],
        "told": [None if math.isnan(chance) else round(float(chance), 4) for chance in inspection.told],
    }
    parts = {
        "title": escape(title),
        "text": "".join(_span(place, piece) for place, piece in enumerate(inspection.pieces)),
        "readings": "".join(map(_ranking, *zip(*_rows(inspection), strict=True))) if inspection.readings else "",
        "size": f"{len(inspection.pieces):,} tokens, {len(inspection.names):,} cells",
        "about_gates": escape(f"There is nothing to draw: {inspection.no_gates}." if inspection.no_gates else _GATES),
        "gates": "".join(_gate(gate, inspection) for gate in inspection.gates),
        "reach": _panel("How far back an error reaches", _REACH, decay(reach)) if len(reach) else "",
        "beams": _tree(inspection.beams),
        "data": json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),  # ends no script element
    }
    page = files("rnn_edge.inspection").joinpath("page.html").read_text(encoding="utf-8")
    before, *rest = page.split("{{")
    return before + "".join(parts[name] + after for name, after in (each.split("}}", 1) for each in rest))


def _rows(inspection: Inspection) -> list[tuple[str, list[tuple[int, str, float]]]]:
    return [
        (name, [(each.cell, inspection.names[each.cell], each.explained) for each in readings])
        for name, readings in inspection.readings.items()
    ]


def _span(place: int, piece: str) -> str:
    return f'<span data-token="{place}">{escape(piece)}</span>'


def _ranking(name: str, rows: Sequence[tuple[int, str, float]]) -> str:
    buttons = "".join(
        f'<li><button data-cell="{cell}">{escape(shown)}</button><i style="width:{share:.0%}"></i>{share:.2f}</li>'
        for cell, shown, share in rows
    )
    return f"<section><h3>{escape(name)}</h3><ol>{buttons}</ol></section>"


def _gate(gate: Gate, inspection: Inspection) -> str:
    """Draw a gate; a click on a dot shows that cell's state, which is the last of a cell's states."""
    layers, cells = max(each.layer for each in inspection.gates), gate.values.shape[1]
    first = len(inspection.names) - (layers - gate.layer + 1) * cells
    drawn = saturation(gate, range(first, first + cells))
    return f"<section><h3>{gate.name} gate, layer {gate.layer}</h3>{drawn}</section>"


def _panel(title: str, about: str, inside: str) -> str:
    return f'<div class="panel"><h2>{escape(title)}</h2><p>{escape(about)}</p>{inside}</div>'


def _tree(beams: Sequence[Beam]) -> str:
    if not beams:
        return ""
    items = "".join(
        f'<li><span class="{"best" if beam.is_best else "held"}">{escape(_visible(beam.text))}'
        f"<small>{beam.probability:.2f}</small></span>{_tree(beam.children)}</li>"
        for beam in beams
    )
    return f"<ul>{items}</ul>"


def _visible(text: str) -> str:
    return text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣")
