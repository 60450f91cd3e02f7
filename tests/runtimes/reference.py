"""Decoding the long way round: plain Python that shares no code with the runtime and scores every path from its start.

A path is a tuple of tokens; what it says, why it ends and what may follow are worked out anew from the whole of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtimes.fakes import History, Looks, Scores


@dataclass(frozen=True, kw_only=True)
class Setting:
    """All that decides a search."""

    scores: Scores
    prompt: History
    token_bytes: Sequence[bytes]
    end_id: int | None = None
    unknown_id: int | None = None
    max_new_tokens: int = 4
    stops: tuple[bytes, ...] = ()
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words: tuple[bytes, ...] = ()
    looks: Looks | None = None

    def said(self, path: History) -> bytes:
        whole = b"".join(self.token_bytes[token] for token in path if token != self.end_id)
        return min((whole.split(stop)[0] for stop in self.stops), key=len, default=whole)

    def ends(self, path: History) -> str | None:
        """Return why a path ends."""
        if not path:
            return None
        if path[-1] == self.end_id:
            return "end"
        whole = b"".join(self.token_bytes[token] for token in path)
        if any(stop in whole for stop in self.stops):
            return "stop"
        return "length" if len(path) == self.max_new_tokens else None

    def log_probs(self, path: History) -> list[float]:
        logits = [float(score) for score in self.scores((*self.prompt, *path))]
        total = math.log(math.fsum(math.exp(score) for score in logits))
        return [score - total for score in logits]

    def restricted(self, path: History, scores: Sequence[float]) -> dict[int, float]:
        """Return the scores of the tokens that may follow, after the penalty for repeating."""
        seen = (*self.prompt, *path)
        allowed = {}
        for token, score in enumerate(scores):
            if token == self.unknown_id or self._repeats(seen, token) or self._finishes_bad_word(seen, token):
                continue
            penalty = self.repetition_penalty if token in seen else 1.0
            allowed[token] = score * penalty if score < 0 else score / penalty
        return allowed

    def _repeats(self, seen: History, token: int) -> bool:
        size = self.no_repeat_ngram_size
        runs = [seen[first : first + size] for first in range(len(seen) - size + 1)] if size else []
        return (*seen, token)[-size:] in runs

    def _finishes_bad_word(self, seen: History, token: int) -> bool:
        before = b"".join(self.token_bytes[each] for each in seen)
        after = before + self.token_bytes[token]
        return any(
            after[first : first + len(word)] == word
            for word in self.bad_words
            for first in range(len(after))
            if first + len(word) > len(before)
        )

    def log_prob(self, path: History) -> float:
        return math.fsum(self.log_probs(path[:index])[token] for index, token in enumerate(path))

    def rating(self, path: History) -> float:
        """Return the sum that beams choose by."""
        return math.fsum(
            self.restricted(path[:index], self.log_probs(path[:index]))[token] for index, token in enumerate(path)
        )

    def coverage(self, path: History) -> float:
        """Return how well a source is covered: for each token but the first, the network looked somewhere before."""
        if not path or self.looks is None:
            return 0.0
        written = (*self.prompt, *path)
        looked = [self.looks(written[:index]) for index in range(1, len(written))]
        return math.fsum(math.log(min(math.fsum(place), 1.0)) for place in zip(*looked, strict=True))


def greedy(setting: Setting) -> tuple[History, str]:
    path: History = ()
    while not (finish := setting.ends(path)):
        logits = [float(score) for score in setting.scores((*setting.prompt, *path))]
        if not (allowed := setting.restricted(path, logits)):
            return path, "stuck"
        path = (*path, max(allowed, key=allowed.__getitem__))
    return path, finish


def distribution(
    scores: dict[int, float], *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> dict[int, float]:
    """Return what a sample is drawn from: the probability of each token that is left."""
    kept = {token: math.exp(score / temperature) for token, score in scores.items()}
    in_order = sorted(kept, key=lambda token: (-kept[token], token))[: top_k or None]
    total = math.fsum(kept[token] for token in in_order)
    reached, nucleus = 0.0, []
    for token in in_order:
        if reached < top_p * total or not nucleus:
            nucleus.append(token)
        reached += kept[token]
    nucleus = [token for token in nucleus if kept[token] >= min_p * kept[in_order[0]]]
    total = math.fsum(kept[token] for token in nucleus)
    return {token: kept[token] / total for token in sorted(nucleus)}


def leaves(setting: Setting, path: History = ()) -> Iterator[History]:
    """Return every path that can end, by walking the whole tree."""
    allowed = () if setting.ends(path) else setting.restricted(path, setting.log_probs(path))
    if not allowed:
        yield path
    for token in allowed:
        yield from leaves(setting, (*path, token))


def beam(
    setting: Setting,
    *,
    num_beams: int,
    length_penalty: float = 0.0,
    early_stopping: bool | str = False,
    narrowing: bool = False,
    threshold: float = 0.0,
    num_groups: int = 1,
    diversity_penalty: float = 0.0,
    coverage_penalty: float = 0.0,
) -> list[tuple[History, float]]:
    """Return the paths that a beam finds, best first, each with its score."""
    size = num_beams // num_groups
    live: list[dict[History, float]] = [{(): 0.0} for _ in range(num_groups)]  # path to rating
    ended: list[list[tuple[History, float]]] = [[] for _ in range(num_groups)]
    while any(live):
        taken: Counter[int] = Counter()
        for group in range(num_groups):
            grown: dict[History, float] = {}
            ending: set[History] = set()
            live_before = set(live[group])
            for path, rating in live[group].items():
                following = setting.restricted(path, setting.log_probs(path))
                if not following:
                    grown[path] = rating
                    ending.add(path)
                for token, gain in following.items():
                    longer = (*path, token)
                    grown[longer] = rating + gain - diversity_penalty * taken[token]
                    if setting.ends(longer):
                        ending.add(longer)
            width = size - len(ended[group]) if narrowing else size
            in_order = sorted(grown, key=lambda path: -grown[path])[: width if narrowing else 2 * width]
            in_order = [
                path for path in in_order if not threshold or grown[path] >= grown[in_order[0]] + math.log(threshold)
            ]
            scores = {
                path: grown[path] / (len(path) or 1) ** length_penalty + coverage_penalty * setting.coverage(path)
                for path in in_order
            }
            finished = [(path, scores[path]) for path in in_order[:width]]
            ended[group] += [each for each in finished if each[0] in ending]
            ended[group] = sorted(ended[group], key=lambda each: -each[1])[:size]
            going = [path for path in in_order if path not in ending][:size]
            took = [*going, *(path for path in in_order[:width] if path in ending - live_before)]
            taken.update(path[-1] for path in took if path[-1] != setting.end_id)
            if len(ended[group]) == size and going:
                hope = max(scores[path] for path in going)
                if early_stopping == "never":
                    lengths = range(len(going[0]) + 1, setting.max_new_tokens + 1)
                    hope = max(grown[going[0]] / length**length_penalty for length in lengths)
                if early_stopping is True or narrowing or hope <= ended[group][-1][1]:
                    going = []
            live[group] = {path: grown[path] for path in going}
    found = [each for of_group in ended for each in of_group]
    return sorted(found, key=lambda each: -each[1])[:num_beams]
