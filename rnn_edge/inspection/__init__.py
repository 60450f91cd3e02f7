"""A look inside a bundle: what its cells do while it reads a text, as numbers and as a page."""

from rnn_edge.inspection.gates import Gate
from rnn_edge.inspection.look import Beam, Inspection, Reading, inspect
from rnn_edge.inspection.page import page_of

__all__ = ["Beam", "Gate", "Inspection", "Reading", "inspect", "page_of"]
