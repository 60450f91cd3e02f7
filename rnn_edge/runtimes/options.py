"""How to continue a text, as plain data that checks itself. Knows nothing of models; the names are Hugging Face's."""

from __future__ import annotations

from dataclasses import dataclass

from rnn_edge.errors import OptionsError

__all__ = ["GenerateOptions"]

# The upper ends keep a slip of the finger from asking for days of work, or for all the memory.
_WHOLE_NUMBERS = {
    "max_new_tokens": (1, 100_000),
    "num_beams": (1, 1_000),
    "num_return_sequences": (1, 1_000),
    "top_k": (0, 2**24),
    "seed": (0, 2**63 - 1),
}
_NUMBERS = {
    "temperature": (1e-6, 1e6),
    "top_p": (1e-6, 1.0),
    "length_penalty": (-10.0, 10.0),
}
_MOST_STOP_STRINGS = 100
_LONGEST_STOP_STRING = 1_000  # characters


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
    length_penalty: float = 1.0  # score = log_prob / tokens**length_penalty; below 0 favours the short
    seed: int = 0
    stop_strings: tuple[str, ...] = ()  # a completion ends before the first of these

    def __post_init__(self) -> None:
        problems = [*self._wrong_values(), *self._wrong_stop_strings(), *self._contradictions()]
        if problems:
            raise OptionsError("these options cannot be used: " + "; ".join(problems))

    def _wrong_values(self) -> list[str]:
        problems = []
        for name, (low, high) in _WHOLE_NUMBERS.items():
            value = getattr(self, name)
            if value is None and name == "max_new_tokens":
                continue
            if type(value) is not int or not low <= value <= high:
                problems.append(f"{name} must be a whole number from {low} to {high}, got {value!r}")
        for name, (least, most) in _NUMBERS.items():
            value = getattr(self, name)
            if type(value) not in (int, float) or not least <= value <= most:
                problems.append(f"{name} must be a number from {least:g} to {most:g}, got {value!r}")
        if type(self.do_sample) is not bool:
            problems.append(f"do_sample must be true or false, got {self.do_sample!r}")
        return problems

    def _wrong_stop_strings(self) -> list[str]:
        if type(self.stop_strings) is not tuple:
            return [f"stop_strings must be a tuple of texts, got {self.stop_strings!r}"]
        problems = [
            f"a stop string must be a text of 1 to {_LONGEST_STOP_STRING} characters, got {text!r:.80}"
            for text in self.stop_strings
            if not _is_stop_string(text)
        ]
        if len(self.stop_strings) > _MOST_STOP_STRINGS:
            problems.append(f"at most {_MOST_STOP_STRINGS} stop strings, got {len(self.stop_strings)}")
        return problems

    def _contradictions(self) -> list[str]:
        problems = []
        changed = [
            f"{name}={getattr(self, name)!r}"
            for name in ("temperature", "top_k", "top_p")
            if getattr(self, name) != getattr(type(self), name)
        ]
        if changed and not self.do_sample:
            problems.append(f"{', '.join(changed)} only matters with do_sample=True: set it")
        if not type(self.num_beams) is type(self.num_return_sequences) is int:
            return problems  # already told, and not to be compared
        if self.do_sample and self.num_beams > 1:
            problems.append(f"num_beams={self.num_beams} searches and do_sample=True draws: choose one of them")
        if not self.do_sample and self.num_return_sequences > self.num_beams:
            problems.append(
                f"num_return_sequences={self.num_return_sequences} needs as many beams or samples: "
                f"set num_beams to at least {self.num_return_sequences}, or do_sample=True"
            )
        return problems


def _is_stop_string(text: object) -> bool:
    """Tell whether a text can be looked for: half a surrogate pair never comes out of a model."""
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_STOP_STRING:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in text)
