"""The faults of an episode that hit processes and storage: when they come, what they do, and their healing."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from invoice_mcp.testing.chaos import procfs
from invoice_mcp.testing.chaos.clock import Clock
from invoice_mcp.testing.chaos.journal import Journal
from invoice_mcp.testing.chaos.processes import RESTART_AFTER, Cluster
from invoice_mcp.testing.chaos.schedule import Step
from invoice_mcp.testing.chaos.storage import Storage

KINDS = ("kill", "stop", "fill-disk", "read-only", "jump-clock")
"""What can be done to processes, storage and clocks."""

WORKERS = "workers"
"""Every process that works: the workers, or the servers where these work themselves."""


@dataclass
class Stop:
    """How long a process was stopped, in seconds since the episode began; `to` is infinite while it is."""

    name: str
    pid: int
    since: float
    to: float = float("inf")


class Injector:
    """Does what the faults of a schedule say, when they say it.

    Attributes:
        done: How often each kind was done; a kill of two processes counts twice.
        missed: Faults that hit nobody: no such process ran at that moment.
        stops: Every stop.
    """

    def __init__(self, cluster: Cluster, journal: Journal, storage: Storage, clock: Clock) -> None:
        self._cluster = cluster
        self._journal = journal
        self._storage = storage
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self.done: Counter[str] = Counter()
        self.missed = 0
        self.stops: list[Stop] = []

    def aim(self) -> None:
        """Wait for the events that faults are aimed at."""
        for step in self._steps():
            if step.when.event:
                self._journal.on(step.when.event, step.when.number, partial(self._at_event, step))

    def begin(self) -> None:
        """Let the faults come whose moments are counted from now on."""
        for step in self._steps():
            if not step.when.event:
                self._later(step, step.when.seconds)

    def _steps(self) -> Iterator[Step]:
        return (step for step in self._cluster.schedule.steps if step.actor == "fault")

    async def _at_event(self, step: Step) -> None:
        if step.when.seconds:
            self._later(step, step.when.seconds)
        else:
            self._do(step)

    def _later(self, step: Step, seconds: float) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            self._do(step)

        self._keep(asyncio.create_task(wait()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _do(self, step: Step) -> None:
        match step.verb:
            case "kill":
                self._kill(step)
            case "stop":
                self._stop(step)
            case "fill-disk" | "read-only":
                self._spoil(step)
            case "jump-clock":
                self._jump(step)
            case verb:
                raise ValueError(f"{verb!r} is no kind of fault")

    def _targets(self, step: Step) -> list[str]:
        named = step.details["process"].split(",")
        workers = [name for name in self._cluster.names if name.startswith("worker")]
        workers = workers or [name for name in self._cluster.names if name.startswith("serve")]
        return [name for each in named for name in (workers if each == WORKERS else [each])]

    def _kill(self, step: Step) -> None:
        names = self._targets(step)
        # Found first and then killed, so that all are killed at once.
        pids = {name: self._cluster.pid(name) for name in names}
        for name, pid in pids.items():
            restart = float(step.details.get("restart", RESTART_AFTER))
            self._cluster.restart_after[name] = restart
            if name in self._cluster.daemons:
                self._cluster.daemons[name].restart_after = restart
            if pid is not None and procfs.send(pid, signal.SIGKILL):
                self._count("kill", f"kills {name} ({pid})")
            else:
                self._miss(f"would kill {name}, which does not run")

    def _stop(self, step: Step) -> None:
        for name in self._targets(step):
            pid = self._cluster.pid(name)
            if pid is None or not procfs.send(pid, signal.SIGSTOP):
                self._miss(f"would stop {name}, which does not run")
                continue
            self._count("stop", f"stops {name} ({pid}) for {step.details['seconds']} s")
            stop = Stop(name, pid, self._journal.now)
            self.stops.append(stop)
            self._keep(asyncio.create_task(self._go_on(stop, float(step.details["seconds"]))))

    async def _go_on(self, stop: Stop, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            procfs.send(stop.pid, signal.SIGCONT)
            stop.to = self._journal.now
            self._journal.note("fault", f"lets {stop.name} go on")

    def _spoil(self, step: Step) -> None:
        spoil = self._storage.fill if step.verb == "fill-disk" else self._storage.make_read_only
        if not spoil():
            self._miss(f"would {step.verb}, which can't be done")
            return
        self._count(step.verb, f"{step.verb} for {step.details['seconds']} s")

        async def heal() -> None:
            await asyncio.sleep(float(step.details["seconds"]))
            self._storage.heal()
            self._journal.note("fault", f"{step.verb} is over")

        self._keep(asyncio.create_task(heal()))

    def _jump(self, step: Step) -> None:
        by = step.details["by"]
        if self._clock.jump(float(by)):
            self._count("jump-clock", f"lets the clock of all but Temporal jump by {by} s")
        else:
            self._miss(f"would let the clock jump by {by} s, which can't be done")

    def _count(self, kind: str, what: str) -> None:
        self.done[kind] += 1
        self._journal.note("fault", what)

    def _miss(self, what: str) -> None:
        self.missed += 1
        self._journal.note("fault", what)

    async def heal(self) -> None:
        """Let no more faults come; what is stopped goes on, and storage and clock are well."""
        self.missed += self._journal.forget()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._storage.heal()
        self._clock.heal()
