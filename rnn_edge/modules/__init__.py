"""The compact PyTorch module set: networks built from a spec, and the checkpoint that keeps them."""

from rnn_edge.modules.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rnn_edge.modules.language_model import LanguageModel
from rnn_edge.modules.stack import Stack, State

__all__ = ["Checkpoint", "LanguageModel", "Stack", "State", "load_checkpoint", "save_checkpoint"]
