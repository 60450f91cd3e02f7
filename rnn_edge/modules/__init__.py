"""The compact PyTorch module set: networks built from a spec, and the checkpoint that keeps them."""

from rnn_edge.modules.attention import Attention, Memory
from rnn_edge.modules.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rnn_edge.modules.classifier import Classifier, SentenceEncoder, sentence_encoder_of
from rnn_edge.modules.crf import CRF
from rnn_edge.modules.encoder import Encoder
from rnn_edge.modules.foreign import import_weights
from rnn_edge.modules.language_model import LanguageModel
from rnn_edge.modules.networks import Network, build
from rnn_edge.modules.stack import Stack, State
from rnn_edge.modules.tagger import Tagger
from rnn_edge.modules.translator import AttentiveDecoder, Describer, Translator

__all__ = [
    "CRF",
    "Attention",
    "AttentiveDecoder",
    "Checkpoint",
    "Classifier",
    "Describer",
    "Encoder",
    "LanguageModel",
    "Memory",
    "Network",
    "SentenceEncoder",
    "Stack",
    "State",
    "Tagger",
    "Translator",
    "build",
    "import_weights",
    "load_checkpoint",
    "save_checkpoint",
    "sentence_encoder_of",
]
