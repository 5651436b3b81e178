"""A campaign: episodes, from seeds or from a schedule, and their totals."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from invoice_mcp.testing.chaos.clients import Call
from invoice_mcp.testing.chaos.episode import Verdict, run_episode
from invoice_mcp.testing.chaos.evidence import StrictReplay
from invoice_mcp.testing.chaos.generator import Options, generate_schedule
from invoice_mcp.testing.chaos.schedule import Schedule


@dataclass(frozen=True)
class Plan:
    """What a campaign runs.

    Attributes:
        seed: Of the first episode; the next one has the next number.
        runs: How many episodes; None: as many as there is time for.
        seconds: No episode begins after so long; None: there is no limit.
        schedule: Run this instead of schedules from seeds, each time.
        keep: A folder for the logs of each episode; None: kept nowhere.
        jobs: How many episodes run at the same time.
    """

    seed: int = 0
    runs: int | None = 1
    seconds: float | None = None
    schedule: Schedule | None = None
    keep: Path | None = None
    keep_going: bool = False
    jobs: int = 1
    options: Options = field(default_factory=Options)

    def schedules(self) -> Iterator[Schedule]:
        """In order; as many as there may be."""
        number = 0
        while self.runs is None or number < self.runs:
            yield self.schedule or generate_schedule(self.seed + number, self.options)
            number += 1


@dataclass
class Totals:
    """Counts over episodes.

    Attributes:
        failed: Verdicts with findings.
        missed: Faults of schedules that hit nobody.
    """

    episodes: int = 0
    seconds: float = 0.0
    invoices: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    payments: int = 0
    replayed: int = 0
    slowest_healing: float = 0.0
    calls: list[Call] = field(default_factory=list)
    failed: list[Verdict] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Count one more episode."""
        self.episodes += 1
        self.seconds += verdict.seconds
        self.invoices += verdict.invoices
        self.faults += verdict.faults
        self.codes += Counter(call.code for call in verdict.calls)
        self.findings += Counter(each.kind for each in verdict.findings)
        self.missed += verdict.missed
        self.payments += verdict.payments
        self.replayed += verdict.replayed
        self.slowest_healing = max(self.slowest_healing, verdict.healed_in)
        self.calls += verdict.calls
        if verdict.findings:
            self.failed.append(verdict)


async def run_campaign(plan: Plan, report: Callable[[Verdict], None], is_stopped: Callable[[], bool]) -> None:
    """Run the episodes of a plan; each verdict is reported.

    Raises:
        OSError: A schedule needs to mount, and this process may not.
    """
    replay, began, episodes, failed = StrictReplay(), time.monotonic(), enumerate(plan.schedules()), asyncio.Event()

    async def work() -> None:
        for number, schedule in episodes:
            keep = plan.keep / f"{number:04}-seed-{schedule.seed}" if plan.keep is not None else None
            verdict = await run_episode(schedule, replay, keep)
            if keep is not None:
                (keep / "findings.txt").write_text("".join(f"{each}\n" for each in verdict.findings), encoding="utf-8")
            report(verdict)
            if verdict.findings and not plan.keep_going:
                failed.set()
            is_over = plan.seconds is not None and time.monotonic() - began > plan.seconds
            if is_over or failed.is_set() or is_stopped():
                return

    jobs = [asyncio.create_task(work()) for _ in range(plan.jobs)]
    try:
        await asyncio.gather(*jobs)
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)
