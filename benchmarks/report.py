"""Results for people and for programs: a table for each workload, the goals, JSON, and a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.goals import GOALS, Index, index
from benchmarks.run import LIMIT, Row
from benchmarks.workloads import WORKLOADS
from rnn_edge.runtimes.bench import Times

__all__ = ["Report"]

_TIMED = ("step", "20 best", "prompt of 64", "beam of 5")
_FACTS = {"bytes": ("file, MB", 1e-6), "error": ("error", 100), "open_milliseconds": ("open, ms", 1)}
_FACTS["megabytes"] = ("resident, MB", 1)


@dataclass(frozen=True)
class Report:
    """Everything a run found."""

    machine: str
    settings: dict[str, Any]
    rows: Sequence[Row]
    skipped: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Report:
        """Read back what `to_dict` gave."""
        rows = [Row(**{**row, "rounds": tuple(row["rounds"])}) for row in values["rows"]]
        return cls(values["machine"], values["settings"], rows, values["skipped"])

    @classmethod
    def joined(cls, reports: Sequence[Report]) -> Report:
        """Return several runs on one machine, with the same settings, as one."""
        first = reports[0]
        if any((each.machine, each.settings) != (first.machine, first.settings) for each in reports):
            raise SystemExit("these are of different machines, versions or settings: show them one by one")
        rows = [row for each in reports for row in each.rows]
        return cls(first.machine, first.settings, rows, [reason for each in reports for reason in each.skipped])

    def lines(self) -> Iterator[str]:
        """Yield everything as Markdown."""
        found = index(self.rows)
        yield f"{self.machine}; one thread, {self.settings['rounds']} rounds of {self.settings['seconds']} s each"
        yield ""
        yield "Microseconds: of a step, of a step with its 20 most probable tokens, of a token of the prompt, of a step"
        yield "of the beam; in brackets, how many times the machine's limit, and the spread of that over the rounds."
        for workload in dict.fromkeys(row.workload for row in self.rows):
            yield ""
            yield from self._table(workload, found)
        yield ""
        yield from _goal_lines(found)
        if self.skipped:
            yield ""
            yield from (f"- {reason}" for reason in self.skipped)

    def _table(self, workload: str, found: Index) -> Iterator[str]:
        rows = [row for row in self.rows if row.workload == workload]
        columns = list(dict.fromkeys((row.task, row.batch) for row in rows if row.task in _TIMED))
        facts = [fact for fact in _FACTS if any(row.task == fact for row in rows)]
        first = min(row.batch for row in rows)
        names = list(dict.fromkeys((row.alternative, row.precision) for row in rows if row.alternative != LIMIT))
        limits = list(dict.fromkeys((row.alternative, row.precision) for row in rows if row.alternative == LIMIT))
        yield f"### {workload}: {WORKLOADS[workload].about}"
        yield ""
        heads = [f"{task}, batch {batch}" for task, batch in columns] + [_FACTS[fact][0] for fact in facts]
        yield f"| | | {' | '.join(heads)} |"
        yield "| --- | --- |" + " --- |" * len(heads)
        for name, precision in limits + sorted(names, key=lambda each: _PRECISIONS.index(each[1])):
            cells = []
            for task, batch in columns:
                times = found.get((workload, task, batch, name, precision))
                limit = found.get((workload, task, batch, LIMIT, precision))
                cells.append(_cell(times, None if name == LIMIT else limit))
            for fact in facts:
                value = found.get((workload, fact, first, name, precision))
                cells.append(_fact(fact, value))
            yield f"| {name} | {precision} | {' | '.join(cells)} |"

    def draw(self, path: Path) -> None:
        """Draw how many times the limit a step takes, batch 1, as bars."""
        from matplotlib.figure import Figure

        found, workloads = index(self.rows), list(dict.fromkeys(row.workload for row in self.rows))
        figure = Figure(figsize=(4 * len(workloads), 7), layout="constrained")
        for axes, workload in zip(figure.subplots(1, len(workloads), squeeze=False)[0], workloads, strict=True):
            keys = [key for key in found if key[:3] == (workload, "step", 1)]
            keys = sorted(keys, key=lambda key: found[key].median, reverse=True)
            medians = [found[key].median for key in keys]
            spread = [
                [found[key].median - min(found[key].rounds) for key in keys],
                [max(found[key].rounds) - found[key].median for key in keys],
            ]
            labels = [f"{name} {precision}" for *_, name, precision in keys]
            bars = axes.barh(labels, medians, xerr=spread, color=[_COLOURS.get(key[3], "#b8c0cc") for key in keys])
            axes.bar_label(bars, [f"{median:,.0f}" for median in medians], padding=3, fontsize=7)
            axes.set(xscale="log", title=workload, xlabel="µs a step, batch 1")
            axes.margins(x=0.25)
            axes.tick_params(labelsize=7)
        figure.suptitle(textwrap.fill(self.machine, 30 * len(workloads) + 30), fontsize=8)
        figure.savefig(path, dpi=120)


_PRECISIONS = ("fp32", "int8", "int4")
_COLOURS = {"rnn-edge": "#1f6feb", "rnn-edge, two-stage": "#1f6feb", LIMIT: "#2da44e"}


def _cell(times: Times | None, limit: Times | None) -> str:
    if times is None:
        return ""
    if limit is None:
        return f"{times.median:,.0f}"
    ratio = times.over(limit)
    return f"{times.median:,.0f} ({ratio.median:.1f}×, {min(ratio.rounds):.1f}–{max(ratio.rounds):.1f})"


def _fact(fact: str, value: Times | None) -> str:
    if value is None:
        return ""
    number = value.median * _FACTS[fact][1]
    return f"{number:.2g} %" if fact == "error" else f"{number:,.2f}" if fact == "bytes" else f"{number:,.1f}"


def _goal_lines(found: Index) -> Iterator[str]:
    """Yield a table of those goals whose two rows were measured."""
    measured = [(goal, ratio) for goal in GOALS if (ratio := goal.measured(found)) is not None]
    if not measured:
        return
    yield "| goal | at most | measured | |"
    yield "| --- | --- | --- | --- |"
    for goal, ratio in measured:
        verdict = "met" if ratio.median <= goal.most else "not met"
        spread = f"{min(ratio.rounds):.2f}–{max(ratio.rounds):.2f}"
        yield f"| {goal.about} | {goal.most:.2f}× | {ratio.median:.2f}×, {spread} | {verdict} |"
