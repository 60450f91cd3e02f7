"""What can go wrong and be put right by a user.

    RnnEdgeError
    ├── SpecError         a network's description does not hold together
    ├── TextError         a text or a vocabulary cannot be used
    ├── CheckpointError   a model.pt cannot be read or written, or weights do not fit
    ├── TrainingError     training cannot start or go on
    ├── ExportError       a network cannot be exported, or its graph disagrees with PyTorch
    ├── BundleError       a bundle cannot be read or written
    ├── PackageError      an app's folder cannot be written
    ├── ProviderError     an execution provider cannot be used
    ├── OptionsError      generation options contradict themselves or each other
    ├── SessionError      a saved session cannot be used
    └── CorpusError       a corpus cannot be read, or what is said of it cannot be written

Each says what was wanted, what was found, and what to do. Anything else that is raised is a bug of ours.
"""

__all__ = [
    "BundleError",
    "CheckpointError",
    "CorpusError",
    "ExportError",
    "OptionsError",
    "PackageError",
    "ProviderError",
    "ProviderWarning",
    "RnnEdgeError",
    "SessionError",
    "SpecError",
    "TextError",
    "TrainingError",
]


class RnnEdgeError(Exception):
    """The parent of every error a user can put right."""


class SpecError(RnnEdgeError, ValueError):
    """A network's description does not hold together."""


class TextError(RnnEdgeError, ValueError):
    """A text or a vocabulary cannot be used."""


class CheckpointError(RnnEdgeError):
    """A model.pt cannot be read or written, or weights from elsewhere do not fit."""


class TrainingError(RnnEdgeError):
    """Training cannot start or go on."""


class ExportError(RnnEdgeError):
    """A network cannot be exported, or its graph disagrees with PyTorch."""


class BundleError(RnnEdgeError):
    """A bundle cannot be read or written."""


class PackageError(RnnEdgeError):
    """An app's folder cannot be written."""


class ProviderError(RnnEdgeError):
    """An execution provider cannot be used."""


class ProviderWarning(UserWarning):
    """A graph runs, in part or altogether, elsewhere than where it was asked to; only where that was allowed."""


class OptionsError(RnnEdgeError, ValueError):
    """Generation options contradict themselves or each other."""


class SessionError(RnnEdgeError, ValueError):
    """A saved session cannot be used."""


class CorpusError(RnnEdgeError):
    """A corpus cannot be read, or what is said of it cannot be written."""
