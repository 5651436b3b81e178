"""Counts over many episodes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from invoice_mcp.testing.model.scenario import Scenario
from invoice_mcp.testing.simulate.fuzz.episode import Episode
from invoice_mcp.testing.simulate.timeline import timeline_data

DURATION_BUCKETS: tuple[tuple[str, timedelta], ...] = (
    ("under a minute", timedelta(minutes=1)),
    ("under an hour", timedelta(hours=1)),
    ("under a day", timedelta(days=1)),
    ("under a week", timedelta(weeks=1)),
    ("under a month", timedelta(days=30)),
    ("under a year", timedelta(days=365)),
    ("a year and more", timedelta.max),
)
"""Names and upper bounds of the classes of virtual time that an episode takes."""


@dataclass(frozen=True)
class EpisodeReport:
    """An episode that is reported in full: a failure, or the sample of an outcome.

    Attributes:
        run: The number of the run.
        scenario: The scenario that was played: for a failure, the shrunk one.
        generated: The scenario as it was generated.
        command: Reproduces the episode.
    """

    run: int
    scenario: Scenario
    generated: Scenario
    episode: Episode
    command: str

    def as_data(self) -> dict[str, Any]:
        """The report as data for JSON."""
        failure = self.episode.failure
        return {
            "run": self.run,
            "causes": list(failure.causes) if failure else [],
            "detail": failure.detail if failure else "",
            "outcome": self.episode.outcome,
            "scenario": self.scenario.model_dump(mode="json", exclude_defaults=True),
            "generated": self.generated.model_dump(mode="json", exclude_defaults=True),
            "command": self.command,
            "timeline": timeline_data(self.episode.timeline),
        }


@dataclass
class Totals:
    """Counts over the episodes so far.

    Attributes:
        virtual_time: Of all episodes together.
        faults: How often each fault occurred.
        outcomes: Episodes by outcome.
        durations: Episodes by virtual time, in `DURATION_BUCKETS`.
        samples: The first episode of each outcome.
    """

    runs: int = 0
    virtual_time: timedelta = timedelta()
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    durations: Counter[str] = field(default_factory=Counter)
    failures: list[EpisodeReport] = field(default_factory=list)
    samples: dict[str, EpisodeReport] = field(default_factory=dict)

    def add(self, episode: Episode) -> None:
        """Count an episode."""
        self.runs += 1
        self.virtual_time += episode.virtual_time
        self.faults.update({verb.value: times for verb, times in episode.faults.items()})
        self.outcomes[episode.outcome] += 1
        self.durations[next(name for name, bound in DURATION_BUCKETS if episode.virtual_time < bound)] += 1

    def add_sample(self, report: EpisodeReport) -> None:
        """Keep an episode as the sample of its outcome, unless an earlier run has the same outcome."""
        kept = self.samples.get(report.episode.outcome)
        if kept is None or report.run < kept.run:
            self.samples[report.episode.outcome] = report

    def merge(self, other: Totals) -> None:
        """Add the counts of other episodes."""
        self.runs += other.runs
        self.virtual_time += other.virtual_time
        self.faults += other.faults
        self.outcomes += other.outcomes
        self.durations += other.durations
        self.failures = sorted([*self.failures, *other.failures], key=lambda report: report.run)
        for report in other.samples.values():
            self.add_sample(report)

    @property
    def virtual_days(self) -> float:
        """Virtual time in days."""
        return self.virtual_time / timedelta(days=1)
