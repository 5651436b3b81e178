"""A schedule from a seed: which processes there are, what clients do, what fails when. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from invoice_mcp.testing.chaos.clock import libfaketime
from invoice_mcp.testing.chaos.faults import WORKERS
from invoice_mcp.testing.chaos.gateway import ERP_FAULTS, GATEWAY_FAULTS, LONG_FAULTS
from invoice_mcp.testing.chaos.schedule import (
    Answers,
    ClientKind,
    ClockKind,
    Home,
    LineAnswers,
    Schedule,
    Server,
    Step,
    Temporal,
    Transport,
    When,
)
from invoice_mcp.testing.chaos.storage import can_mount

LONGEST = 6.0
"""Seconds in which clients act."""

STORAGE_FAULTS = ("fill-disk", "read-only")
"""Faults that need a home of its own file system."""

CLOCK_FAULT = "jump-clock"
"""The fault that needs libfaketime."""

_MOST_INVOICES = 14
# Faults that pay and leave the caller without a verdict.
_IN_DOUBT = ("lose-after", "reset-after", "garbage", "error-after", "no-content", "conflict-after", "truncate")


@dataclass(frozen=True)
class Options:
    """What schedules may have.

    Attributes:
        can_mount: Whether a home may be a file system of its own.
        can_fake_clock: Whether clocks may jump.
    """

    can_mount: bool = False
    can_fake_clock: bool = False

    @classmethod
    def here(cls) -> Self:
        """What this process can do on this machine."""
        return cls(can_mount(), libfaketime() is not None)


def generate_schedule(seed: int, options: Options = Options()) -> Schedule:
    """The schedule of a seed: the same one each time."""
    return _Generator(seed, options).schedule()


class _Generator:
    def __init__(self, seed: int, options: Options) -> None:
        self._seed = seed
        self._dice = random.Random(f"chaos {seed}")  # noqa: S311 (no secret)
        self._options = options
        self._invoices = 0
        self._lines: list[LineAnswers] = []
        self._clients: tuple[ClientKind, ...] = ()
        self._workers: list[str] = []

    def schedule(self) -> Schedule:
        dice = self._dice
        temporal = Temporal.EMBEDDED if dice.random() < 0.65 else Temporal.EXTERNAL
        servers = self._servers(temporal)
        # With workers of their own, servers have none.
        workers = dice.choice((1, 2)) if temporal is Temporal.EXTERNAL else dice.choice((0, 1))
        self._clients = tuple(self._clients_of(servers))
        self._workers = [f"worker-{number}" for number in range(workers)] or [f"serve-{n}" for n in range(len(servers))]
        mounts = dice.random() < 0.25 and temporal is Temporal.EMBEDDED
        bare = Schedule(
            self._seed,
            temporal,
            Home.MOUNT if mounts else Home.FOLDER,
            ClockKind.FAKE if dice.random() < 0.2 else ClockKind.REAL,
            window=10.0,
            workers=workers,
            servers=servers,
            clients=self._clients,
            erp=self._answers(tuple(ERP_FAULTS), 0.25),
            gateway=self._answers(tuple(GATEWAY_FAULTS), 0.95),
        )
        steps = [*self._acts(), *self._faults(bare)]
        steps.sort(key=lambda step: (bool(step.when.event), step.when.seconds))
        if not self._options.can_mount:
            # The rest is the same everywhere.
            bare = replace(bare, home=Home.FOLDER)
            steps = [step for step in steps if step.verb not in STORAGE_FAULTS]
        if not self._options.can_fake_clock:
            bare = replace(bare, clock=ClockKind.REAL)
            steps = [step for step in steps if step.verb != CLOCK_FAULT]
        return replace(bare, lines=tuple(self._lines), steps=tuple(steps))

    # -- who there is --------------------------------------------------------------------------------------

    def _servers(self, temporal: Temporal) -> tuple[Server, ...]:
        kinds = [Transport.STDIO, Transport.STDIO] if temporal is Temporal.EMBEDDED else [Transport.HTTP]
        kinds += self._dice.sample([Transport.HTTP, Transport.STDIO], k=self._dice.choice((0, 0, 1)))
        if temporal is Temporal.EXTERNAL and len(kinds) == 1:
            kinds.append(Transport.STDIO)
        return tuple(Server(kind, kind is Transport.STDIO and self._dice.random() < 0.1) for kind in kinds)

    def _clients_of(self, servers: tuple[Server, ...]) -> Iterator[ClientKind]:
        dice = self._dice
        for number, server in enumerate(servers):
            for _ in range(1 if server.transport is Transport.STDIO else 2):
                legacy = dice.random() < 0.3
                tasks = not legacy and dice.random() < 0.4
                yield ClientKind(number, legacy, dice.random() < 0.4, tasks)

    def _answers(self, kinds: tuple[str, ...], most: float) -> Answers:
        dice = self._dice
        if dice.random() < 0.1:
            return Answers()
        # Some faults at a time only: a gateway that does everything seldom does one thing twice (swarm testing).
        long = LONG_FAULTS if dice.random() < 0.1 else ()
        able = [kind for kind in kinds if kind not in LONG_FAULTS or kind in long]
        chosen = [kind for kind in able if dice.random() < 0.5] or able
        return Answers(round(dice.uniform(most / 2, most), 2), tuple(chosen))

    # -- what clients do -----------------------------------------------------------------------------------

    def _acts(self) -> Iterator[Step]:
        stories: list[Callable[[], Iterator[Step]]] = [
            *([self._usual] * 5),
            self._lost_each_time,
            self._raced,
        ]
        # Somebody has to ask while no worker runs.
        if self._dice.random() < 0.5 and self._workers[0].startswith("worker"):
            yield from self._cancelled_after_a_query()
        for _ in range(self._dice.randint(3, 5)):
            yield from self._long()
        for _ in range(self._dice.randint(6, _MOST_INVOICES)):
            yield from self._dice.choice(stories)()
        for _ in range(self._dice.randint(2, 6)):
            yield self._step(self._moment(), "list")

    def _usual(self) -> Iterator[Step]:
        dice, number, dues = self._dice, self._next(), self._dues()
        at = dice.uniform(0, 3)
        yield self._step(at, "submit", number, lines=dues)
        for _ in range(dice.randint(0, 2)):
            verb = dice.choice(("status", "status", "submit", "task-get", "submit-changed"))
            more = {"lines": dues} if verb.startswith("submit") else {"wait": dice.choice("0023")}
            yield self._step(self._moment(at), verb, number, **(more if verb != "task-get" else {}))
        verdict = dice.choice((*["approve"] * 6, "task-decide", "reject", "cancel", ""))
        if verdict:
            yield self._step(self._moment(at), verdict, number)
        if dice.random() < 0.3:
            yield self._step(self._moment(at + 1), dice.choice(("cancel", "approve", "reject", "task-cancel")), number)

    def _long(self) -> Iterator[Step]:
        """Many lines, paid at once."""
        number, at = self._next(), self._dice.uniform(0, 3)
        yield self._step(at, "submit", number, lines=",".join(["past"] * self._dice.randint(12, 40)))
        yield self._step(at + 0.3, "approve", number)
        if self._dice.random() < 0.3:
            yield self._step(self._moment(at + 0.5), "cancel", number)

    def _raced(self) -> Iterator[Step]:
        """Two decisions at once, by different clients."""
        number, at = self._next(), self._dice.uniform(0, 3)
        yield self._step(at, "submit", number, lines=self._dues())
        later = self._moment(at + 0.3)
        for verb in self._dice.sample(("approve", "reject", "cancel"), 2):
            yield self._step(later, verb, number)

    def _cancelled_after_a_query(self) -> Iterator[Step]:
        """Cancelled while no worker runs and a query waits for one, just after a line has become due.

        The worker that comes then may answer the query first, from a replay: see docs/upstream/query-before-task.md.
        """
        at = self._dice.uniform(0, 0.3)
        due = round(at + self._dice.uniform(5.0, 6.0), 2)
        killed = {"process": WORKERS, "restart": f"{self._dice.uniform(0.3, 1.5):.1f}"}
        yield Step(When(round(due - 1.5, 2)), "fault", "kill", killed)
        # One of them just before the worker comes: how long that takes to start is the machine's.
        for cancelled in (0.4, 1.9, 3.4, 4.9):
            number = self._next()
            yield self._step(at, "submit", number, lines=f"{due:g},{due + 12:g}")
            yield self._step(at + 0.1, "approve", number)
            for after in (0, 2, 4):
                yield self._step(due + after, "status", number, wait="0", waits="no")
            yield self._step(due + cancelled, "cancel", number, waits="no")

    def _lost_each_time(self) -> Iterator[Step]:
        """A payment that is made, and whose every answer is lost; then submitted again."""
        number, dues = self._next(), self._dues()
        at = self._dice.uniform(0, 0.5)
        self._lines.append(LineAnswers(number, 1, 3, self._dice.choice(_IN_DOUBT)))
        yield self._step(at, "submit", number, lines=dues)
        yield self._step(at + 0.4, "approve", number)
        for later in (4.6, 5.2):
            yield self._step(at + later, "submit", number, lines=dues)
            yield self._step(at + later + 0.4, "approve", number)

    def _next(self) -> int:
        self._invoices += 1
        return self._invoices

    def _dues(self) -> str:
        count = self._dice.choice((1, 2, 2, 3, 5))
        return ",".join(self._dice.choice(("past", "past", f"{self._dice.uniform(1, 7):.1f}")) for _ in range(count))

    def _moment(self, after: float = 0.0) -> float:
        return self._dice.uniform(min(after, LONGEST), LONGEST)

    def _step(self, at: float, verb: str, invoice: int = 0, **details: str) -> Step:
        client = self._dice.randrange(len(self._clients))
        about = {"invoice": str(invoice)} if invoice else {}
        return Step(When(round(at, 2)), f"client-{client}", verb, about | details)

    # -- what fails ----------------------------------------------------------------------------------------

    def _faults(self, schedule: Schedule) -> Iterator[Step]:
        dice = self._dice
        names = [f"serve-{number}" for number in range(len(schedule.servers))]
        names += [f"worker-{number}" for number in range(schedule.workers)] + ["temporal", "temporal"]
        names += ["guardian"] if schedule.temporal is Temporal.EMBEDDED else []
        for _ in range(dice.randint(2, 5)):
            yield self._process_fault(names)
        if schedule.home is Home.MOUNT:
            kind = dice.choice(("fill-disk", "fill-disk", "read-only"))
            span = f"{dice.uniform(0.5, 2.5):.1f}"
            yield Step(When(round(dice.uniform(0, 5), 2)), "fault", kind, {"seconds": span})

        if schedule.clock is ClockKind.FAKE:
            for _ in range(dice.randint(1, 2)):
                by = dice.choice((-86400, -3600, -60, -5, 5, 60, 3600, 86400, 86400 * 400))
                yield Step(When(round(dice.uniform(0, LONGEST), 2)), "fault", CLOCK_FAULT, {"by": str(by)})

    def _process_fault(self, names: list[str]) -> Step:
        dice = self._dice
        when = self._aim()
        restart = f"{dice.choice((0, 0.3, 1)):g}"
        draw = dice.random()
        if draw < 0.3:
            return Step(
                when, "fault", "stop", {"process": dice.choice(names), "seconds": f"{dice.uniform(0.3, 3):.1f}"}
            )
        count = 2 if draw < 0.45 and len(set(names)) > 1 else 1
        hit = ",".join(dict.fromkeys(dice.sample(names, count)))
        if draw > 0.92:
            hit = "workers"
        return Step(when, "fault", "kill", {"process": hit, "restart": restart})

    def _aim(self) -> When:
        """At random, or at what happens just then."""
        dice = self._dice
        if dice.random() < 0.4:
            return When(round(dice.uniform(0, LONGEST), 2))
        event, most, spans = dice.choice(
            (
                ("paid", 12, (0.0, 0.0)),
                ("pay", 12, (0.0, 0.0)),
                ("pay-answered", 12, (0.0, 0.02)),
                ("validate", 8, (0.0, 0.0)),
                ("status", 4, (0.0, 0.1)),
                ("approve", 4, (0.0, 0.05)),
                ("trigger", 4, (0.0, 0.05)),
                ("answer", 3, (0.0, 0.0)),
                ("start", 5, (0.0, 1.5)),
            )
        )
        return When(round(dice.uniform(*spans), 3), event, dice.randint(1, most))
