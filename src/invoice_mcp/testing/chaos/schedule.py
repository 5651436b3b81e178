"""The schedule of an episode as data: which processes and clients there are, what they do, what fails when. Pure.

A schedule is printed as text, a line for each part, and parsed from it: what is printed can be run again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Self

_VERSION = "chaos 1"
_WHEN = re.compile(r"(?:(?P<event>[a-z-]+)#(?P<number>[1-9][0-9]*))?(?:\+?(?P<seconds>[0-9]+(?:\.[0-9]+)?)s)?")


class ScheduleError(ValueError):
    """A text is no schedule. The message says which line."""


class Temporal(StrEnum):
    """Which Temporal keeps the invoices."""

    EMBEDDED = "embedded"
    """The embedded server, shared by all `serve` of one home, with its guardian."""
    EXTERNAL = "external"
    """A dev server with a file database, started and restarted by the episode."""


class Transport(StrEnum):
    STDIO = "stdio"
    HTTP = "http"


class Home(StrEnum):
    """Where the home directory lies."""

    FOLDER = "folder"
    """A folder of the temporary directory."""
    MOUNT = "mount"
    """A small file system of its own, which can be full or read-only. Needs the right to mount."""


class ClockKind(StrEnum):
    """Whose time the processes have, but for Temporal's server."""

    REAL = "real"
    FAKE = "fake"
    """One that can jump. Needs libfaketime."""


@dataclass(frozen=True)
class When:
    """A moment of an episode.

    Attributes:
        seconds: Since all clients were connected; or since the event, if there is one.
        event: Kind of event in the journal, such as `paid`; "" for none.
        number: The how-manieth event of that kind, from 1.
    """

    seconds: float = 0.0
    event: str = ""
    number: int = 0

    def __str__(self) -> str:
        after = f"{self.seconds:g}s"
        if not self.event:
            return after
        return f"{self.event}#{self.number}" + (f"+{after}" if self.seconds else "")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` gives.

        Raises:
            ScheduleError: It is no moment.
        """
        found = _WHEN.fullmatch(text)
        if not text or found is None:
            raise ScheduleError(f"{text!r} is no moment: write it like 1.5s, paid#3 or paid#3+0.02s")
        return cls(float(found["seconds"] or 0), found["event"] or "", int(found["number"] or 0))


@dataclass(frozen=True)
class Server:
    """One `invoice-mcp serve`.

    Attributes:
        stderr_full: Its standard error is a full pipe that nobody reads.
    """

    transport: Transport
    stderr_full: bool = False


@dataclass(frozen=True)
class ClientKind:
    """One MCP client.

    Attributes:
        server: Number of its server. A server on stdio has exactly one client.
        legacy: Whether it speaks the protocol before 2026-07-28.
        forms: Whether it answers forms, with yes.
        tasks: Whether it declares the tasks extension.
    """

    server: int
    legacy: bool = False
    forms: bool = False
    tasks: bool = False


@dataclass(frozen=True)
class Step:
    """Something that an actor does at a moment.

    Attributes:
        actor: `client-N` or `fault`.
        verb: A client's action, or a kind of fault.
    """

    when: When
    actor: str
    verb: str
    details: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = "".join(f" {name}={value}" for name, value in self.details.items())
        return f"{self.when} {self.actor} {self.verb}{parts}"


@dataclass(frozen=True)
class Answers:
    """How the ERP (`validate`) or the gateway (`pay`) answers.

    Attributes:
        rate: The part of its requests that a fault answers.
        kinds: The faults.
    """

    rate: float = 0.0
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class LineAnswers:
    """How the gateway answers the first requests for one line, whatever else is drawn."""

    invoice: int
    line: int
    times: int
    kind: str


@dataclass(frozen=True)
class Schedule:
    """One episode.

    Attributes:
        window: Seconds that an invoice waits for its decision.
        steps: In order of their moments; those that wait for an event last.
    """

    seed: int
    temporal: Temporal = Temporal.EMBEDDED
    home: Home = Home.FOLDER
    clock: ClockKind = ClockKind.REAL
    window: float = 6.0
    workers: int = 0
    servers: tuple[Server, ...] = ()
    clients: tuple[ClientKind, ...] = ()
    erp: Answers = Answers()
    gateway: Answers = Answers()
    lines: tuple[LineAnswers, ...] = ()
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return "\n".join(self._text()) + "\n"

    def _text(self) -> Iterator[str]:
        yield _VERSION
        yield f"seed {self.seed}"
        yield f"temporal {self.temporal}"
        yield f"home {self.home}"
        yield f"clock {self.clock}"
        yield f"window {self.window:g}"
        yield f"workers {self.workers}"
        for server in self.servers:
            yield f"server transport={server.transport} stderr_full={_word(server.stderr_full)}"
        for client in self.clients:
            parts = (f"{each.name}={_word(getattr(client, each.name))}" for each in fields(client))
            yield f"client {' '.join(parts)}"
        for name, answers in (("erp", self.erp), ("gateway", self.gateway)):
            yield f"{name} rate={answers.rate:g} kinds={','.join(answers.kinds)}"
        for each in self.lines:
            yield f"line invoice={each.invoice} line={each.line} times={each.times} kind={each.kind}"
        for step in self.steps:
            yield f"step {step}"

    @staticmethod
    def parse(text: str) -> Schedule:
        """Read what `str` gives. Empty lines and lines that begin with # are left out.

        Raises:
            ScheduleError: It is no schedule; names the line.
        """
        lines = [line.strip() for line in text.splitlines()]
        said = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
        if not said or said[0][1] != _VERSION:
            raise ScheduleError(f"a schedule begins with the line {_VERSION!r}")
        found: dict[str, list[str]] = {}
        for number, line in said[1:]:
            name, _, rest = line.partition(" ")
            if name not in _PARTS:
                raise ScheduleError(f"line {number}: {name!r} is none of {', '.join(_PARTS)}")
            found.setdefault(name, []).append(rest.strip())
        try:
            return _read(found)
        except ScheduleError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ScheduleError(f"it can't be read: {error!r}") from None


_PARTS = (
    "seed",
    "temporal",
    "home",
    "clock",
    "window",
    "workers",
    "server",
    "client",
    "erp",
    "gateway",
    "line",
    "step",
)
_BOOLEANS: Mapping[str, bool] = MappingProxyType({"yes": True, "no": False})


def _word(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _read(found: Mapping[str, list[str]]) -> Schedule:
    last = {name: values[-1] for name, values in found.items()}
    return Schedule(
        seed=int(last["seed"]),
        temporal=Temporal(last["temporal"]),
        home=Home(last["home"]),
        clock=ClockKind(last.get("clock", ClockKind.REAL)),
        window=float(last["window"]),
        workers=int(last["workers"]),
        servers=tuple(_server(_pairs(text.split())) for text in found.get("server", ())),
        clients=tuple(_client(_pairs(text.split())) for text in found.get("client", ())),
        erp=_answers(_pairs(last["erp"].split())),
        gateway=_answers(_pairs(last["gateway"].split())),
        lines=tuple(_line(_pairs(text.split())) for text in found.get("line", ())),
        steps=tuple(_step(text) for text in found.get("step", ())),
    )


def _pairs(words: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for each in words:
        name, equals, value = each.partition("=")
        if not equals:
            raise ScheduleError(f"{each!r} must read name=value")
        pairs[name] = value
    return pairs


def _server(parts: Mapping[str, str]) -> Server:
    return Server(Transport(parts["transport"]), _BOOLEANS[parts["stderr_full"]])


def _client(parts: Mapping[str, str]) -> ClientKind:
    words = {name: _BOOLEANS[parts[name]] for name in ("legacy", "forms", "tasks")}
    return ClientKind(int(parts["server"]), **words)


def _answers(parts: Mapping[str, str]) -> Answers:
    return Answers(float(parts["rate"]), tuple(kind for kind in parts["kinds"].split(",") if kind))


def _line(parts: Mapping[str, str]) -> LineAnswers:
    return LineAnswers(int(parts["invoice"]), int(parts["line"]), int(parts["times"]), parts["kind"])


def _step(text: str) -> Step:
    words = text.split()
    if len(words) < 3:
        raise ScheduleError(f"step {text!r} must read WHEN ACTOR VERB name=value ...")
    return Step(When.parse(words[0]), words[1], words[2], _pairs(words[3:]))
