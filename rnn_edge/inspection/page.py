"""An inspection as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files

import numpy as np

from rnn_edge.inspection.look import Beam, Inspection

__all__ = ["page_of"]


def page_of(inspection: Inspection, *, title: str) -> str:
    """Return the page.

    Its data is JSON in a script element; activations are bytes of 127 × value, (tokens, cells), in base64.
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
        f'<li><button data-cell="{cell}">{escape(shown)}</button> {share:.2f}</li>' for cell, shown, share in rows
    )
    return f"<section><h3>{escape(name)}</h3><ol>{buttons}</ol></section>"


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
