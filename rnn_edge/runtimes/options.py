"""How to continue a text, as plain data that checks itself. Knows nothing of models; the names are Hugging Face's."""

from __future__ import annotations

from dataclasses import dataclass

from rnn_edge.bundle import EarlyStopping
from rnn_edge.errors import OptionsError

__all__ = ["GenerateOptions", "wrong_stopping"]

# The upper ends keep a slip of the finger from asking for days of work, or for all the memory.
_WHOLE_NUMBERS = {
    "max_new_tokens": (1, 100_000),
    "num_beams": (1, 1_000),
    "num_return_sequences": (1, 1_000),
    "top_k": (0, 2**24),
    "no_repeat_ngram_size": (0, 1_000),
    "num_beam_groups": (1, 1_000),
    "seed": (0, 2**63 - 1),
}
_NUMBERS = {
    "temperature": (1e-6, 1e6),
    "top_p": (1e-6, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
    "length_penalty": (-10.0, 10.0),
    "beam_threshold": (0.0, 1.0),
    "diversity_penalty": (0.0, 1e6),
    "coverage_penalty": (0.0, 100.0),
}
_TEXTS = {"stop_strings": "a stop string", "bad_words": "a bad word"}
_MOST_TEXTS = 100
_LONGEST_TEXT = 1_000  # characters

_OF_SAMPLES = ("temperature", "top_k", "top_p", "min_p")
_OF_BEAMS = (
    "early_stopping",
    "narrowing",
    "beam_threshold",
    "num_beam_groups",
    "diversity_penalty",
    "coverage_penalty",
)


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """How many continuations to look for, how, and where each one ends."""

    max_new_tokens: int | None = None  # none: 20 of a completion, 200 of what ends by itself, such as a translation
    num_beams: int = 1  # 1: follow the likeliest token, or sample
    num_return_sequences: int = 1  # how many completions to return, best first
    do_sample: bool = False
    temperature: float = 1.0  # below 1 plays safe, above 1 takes risks
    top_k: int = 0  # sample among the k likeliest tokens; 0 means all
    top_p: float = 1.0  # sample among the fewest tokens that together reach this probability
    min_p: float = 0.0  # sample among tokens at least this many times as probable as the likeliest
    repetition_penalty: float = 1.0  # above 1 makes tokens that were read or said less likely
    no_repeat_ngram_size: int = 0  # no run of so many tokens comes twice; 0 means any may
    length_penalty: float = 1.0  # score = log_prob / tokens**length_penalty; below 0 favours the short
    early_stopping: EarlyStopping = False  # when num_beams have ended: True stops, False guesses, "never" makes sure
    narrowing: bool = False  # whether a hypothesis that ends gives up its place in the beam
    beam_threshold: float = 0.0  # drop hypotheses less than this many times as probable as the best
    num_beam_groups: int = 1  # beams that search side by side, each avoiding what those before it say
    diversity_penalty: float = 0.0  # taken from a token's log-prob for each beam of earlier groups that took it
    coverage_penalty: float = 0.0  # weight of what a translation has not looked at, in its score
    seed: int = 0
    stop_strings: tuple[str, ...] = ()  # a completion ends before the first of these
    bad_words: tuple[str, ...] = ()  # never said, in whatever tokens
    forced_prefix: str = ""  # every completion begins with this

    @property
    def looks_back(self) -> bool:
        """Return whether what may be said depends on the tokens of the prompt."""
        return bool(self.repetition_penalty != 1.0 or self.no_repeat_ngram_size or self.bad_words)

    def __post_init__(self) -> None:
        wrong = {**self._wrong_numbers(), **self._wrong_words()}
        texts = self._wrong_texts()
        problems = [*wrong.values(), *texts]
        if not self.do_sample and (changed := self._changed(_OF_SAMPLES)):
            problems.append(f"{changed} only matters with do_sample=True: set it")
        if not wrong.keys() & {"num_beams", "num_return_sequences", *_OF_BEAMS}:  # else they cannot be compared
            problems += self._contradictions_of_beams()
        if not texts:
            problems += self._contradictions_of_texts()
        if problems:
            raise OptionsError("these options cannot be used: " + "; ".join(problems))

    def _wrong_numbers(self) -> dict[str, str]:
        problems = {}
        for name, (low, high) in _WHOLE_NUMBERS.items():
            value = getattr(self, name)
            if value is None and name == "max_new_tokens":
                continue
            if type(value) is not int or not low <= value <= high:
                problems[name] = f"{name} must be a whole number from {low} to {high}, got {value!r}"
        for name, (least, most) in _NUMBERS.items():
            value = getattr(self, name)
            if type(value) not in (int, float) or not least <= value <= most:
                problems[name] = f"{name} must be a number from {least:g} to {most:g}, got {value!r}"
        return problems

    def _wrong_words(self) -> dict[str, str]:
        problems = {
            name: f"{name} must be true or false, got {getattr(self, name)!r}"
            for name in ("do_sample", "narrowing")
            if type(getattr(self, name)) is not bool
        }
        if problem := wrong_stopping(self.early_stopping):
            problems["early_stopping"] = problem
        return problems

    def _wrong_texts(self) -> list[str]:
        problems = []
        for name, one in _TEXTS.items():
            texts = getattr(self, name)
            if type(texts) is not tuple:
                problems.append(f"{name} must be a tuple of texts, got {texts!r}")
                continue
            problems += [
                f"{one} must be a text of 1 to {_LONGEST_TEXT} characters, got {text!r:.80}"
                for text in texts
                if not _is_text(text) or not text
            ]
            if len(texts) > _MOST_TEXTS:
                problems.append(f"at most {_MOST_TEXTS} {name}, got {len(texts)}")
        if not _is_text(self.forced_prefix):
            problems.append(
                f"forced_prefix must be a text of at most {_LONGEST_TEXT} characters, got {self.forced_prefix!r:.80}"
            )
        return problems

    def _contradictions_of_beams(self) -> list[str]:
        problems = []
        if self.num_beams == 1 and (changed := self._changed(_OF_BEAMS)):
            problems.append(f"{changed} only matters with several beams: set num_beams")
        if self.do_sample and self.num_beams > 1:
            problems.append(f"num_beams={self.num_beams} searches and do_sample=True draws: choose one of them")
        if not self.do_sample and self.num_return_sequences > self.num_beams:
            problems.append(
                f"num_return_sequences={self.num_return_sequences} needs as many beams or samples: "
                f"set num_beams to at least {self.num_return_sequences}, or do_sample=True"
            )
        if problem := wrong_stopping(self.early_stopping, narrowing=self.narrowing):
            problems.append(problem)
        if self.num_beams % self.num_beam_groups:
            problems.append(
                f"num_beams={self.num_beams} cannot be shared by num_beam_groups={self.num_beam_groups}: "
                "make it a multiple"
            )
        if (self.num_beam_groups > 1) != (self.diversity_penalty > 0):
            problems.append(
                "groups of beams differ by their penalty: set both num_beam_groups above 1 and diversity_penalty "
                f"above 0, got {self.num_beam_groups} and {self.diversity_penalty:g}"
            )
        return problems

    def _contradictions_of_texts(self) -> list[str]:
        return [
            f"forced_prefix={self.forced_prefix!r:.80} says {text!r:.80}, which is among {name}: leave out one of them"
            for name in _TEXTS
            for text in getattr(self, name)
            if text in self.forced_prefix
        ]

    def _changed(self, names: tuple[str, ...]) -> str:
        """Return those of some options that are not at their defaults, as text."""
        values = {name: getattr(self, name) for name in names}
        return ", ".join(f"{name}={value!r}" for name, value in values.items() if value != getattr(type(self), name))


def wrong_stopping(early_stopping: object, *, narrowing: bool = False) -> str | None:
    """Return what is wrong with when a beam is to stop, or nothing."""
    if type(early_stopping) is not bool and early_stopping != "never":
        return f"early_stopping must be true, false or 'never', got {early_stopping!r}"
    if narrowing and early_stopping is not False:
        return "a beam that narrows is done when all its places are taken: leave out early_stopping"
    return None


def _is_text(text: object) -> bool:
    """Tell whether a text can be looked for: half a surrogate pair never comes out of a model."""
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in text)
