"""What many lives come to: counted, added up, told as data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from invoice_mcp.testing.model.scenario import Scenario
from invoice_mcp.testing.simulate.fuzz.episode import Episode
from temporal_simulator import START_TIME, TimelineEntry

DURATION_BUCKETS: tuple[tuple[str, timedelta], ...] = (
    ("under a minute", timedelta(minutes=1)),
    ("under an hour", timedelta(hours=1)),
    ("under a day", timedelta(days=1)),
    ("under a week", timedelta(weeks=1)),
    ("under a month", timedelta(days=30)),
    ("under a year", timedelta(days=365)),
    ("a year and more", timedelta.max),
)
"""How virtual time lived is classed, by the upper bounds."""


@dataclass(frozen=True)
class EpisodeReport:
    """A run whose story is told.

    Attributes:
        life: Of the scenario told: for a failure, the shrunk one.
        drawn: The scenario as it was drawn.
        command: Plays the scenario again.
    """

    run: int
    scenario: Scenario
    drawn: Scenario
    life: Episode
    command: str

    def as_data(self) -> dict[str, Any]:
        """It as JSON would have it."""
        broken = self.life.broken
        return {
            "run": self.run,
            "by": list(broken.by) if broken else [],
            "seen": broken.seen if broken else "",
            "outcome": self.life.outcome,
            "scenario": self.scenario.model_dump(mode="json", exclude_defaults=True),
            "drawn": self.drawn.model_dump(mode="json", exclude_defaults=True),
            "command": self.command,
            "timeline": [{"at": each.at.isoformat(), "who": each.who, "what": each.what} for each in self.life.story],
        }


@dataclass
class Totals:
    """What lives come to so far.

    Attributes:
        lived: Virtual time, of all lives together.
        faults: Those that were met.
        spans: How many lives were so long, by the names of `DURATION_BUCKETS`.
        samples: Of each outcome the first life.
    """

    runs: int = 0
    lived: timedelta = timedelta()
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    spans: Counter[str] = field(default_factory=Counter)
    failures: list[EpisodeReport] = field(default_factory=list)
    samples: dict[str, EpisodeReport] = field(default_factory=dict)

    def add(self, life: Episode) -> None:
        """One more life."""
        self.runs += 1
        self.lived += life.lived
        self.faults.update({verb.value: times for verb, times in life.faults.items()})
        self.outcomes[life.outcome] += 1
        self.spans[next(name for name, bound in DURATION_BUCKETS if life.lived < bound)] += 1

    def sample(self, told: EpisodeReport) -> None:
        """The story of a life; of several with one outcome that of the first run counts."""
        kept = self.samples.get(told.life.outcome)
        if kept is None or told.run < kept.run:
            self.samples[told.life.outcome] = told

    def take(self, other: Totals) -> None:
        """All of the others too."""
        self.runs += other.runs
        self.lived += other.lived
        self.faults += other.faults
        self.outcomes += other.outcomes
        self.spans += other.spans
        self.failures = sorted([*self.failures, *other.failures], key=lambda told: told.run)
        for told in other.samples.values():
            self.sample(told)

    @property
    def virtual_days(self) -> float:
        """Virtual time lived, in days."""
        return self.lived / timedelta(days=1)


def format_elapsed(moment: TimelineEntry) -> str:
    """When a moment was, counted from the beginning of the life: days, and a time of the day to the millisecond."""
    passed = moment.at - START_TIME
    minutes, seconds = divmod(passed.seconds, 60)
    return f"{passed.days:>4}d {minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{passed.microseconds // 1000:03}"
