"""What a World needs of the place where it happens: a Temporal, a clock that can be moved, a worker. The seam."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from temporalio.client import Client

from invoice_mcp.adapters.erp import Erp
from invoice_mcp.adapters.payments import Payments
from invoice_mcp.testing.world.fakes import Stamp
from temporal_simulator import VirtualTimeLoop

GIVES_UP_AFTER = 30.0
"""Seconds of real time that anything of the harness may take before it counts as stuck."""


class EngineStuck(Exception):  # noqa: N818 (it names a state)
    """The engine did not do in `GIVES_UP_AFTER` what takes it milliseconds. A new one is started for the next world."""


class EngineWorker(Protocol):
    """The worker of an engine, while it runs."""

    async def forget(self) -> None:
        """Put every workflow out of memory: it has to come back by replay, as after a crash."""
        ...


class Engine(Protocol):
    """A Temporal on which one scenario at a time takes place.

    Attributes:
        client: For the MCP server and for what scenarios do behind its back.
        can_list: Whether `list` works.
        can_be_without_worker: Whether work can wait for a worker. Where it can't, a crash is over at once.
        goes_on_within: Seconds of real time in which workflows go on by themselves, where no time need pass for that.
    """

    client: Client
    can_list: bool
    can_be_without_worker: bool
    goes_on_within: float

    async def now(self, workflow_id: str | None = None) -> datetime:
        """The time, in UTC: of that workflow, where each has its own clock."""
        ...

    async def advance(self, span: timedelta, workflow_ids: Sequence[str]) -> None:
        """Let time pass, at least for these workflows and their children, and return when what it set off has begun.

        Raises:
            EngineStuck: Time does not pass.
        """
        ...

    def stamp(self) -> Stamp:
        """When, and for which run, the activity that calls this is executed. Call it inside of an activity only."""
        ...

    def worker(
        self, erp: Erp, payments: Payments, workflows: Sequence[type], task_queue: str, *, sandboxed: bool
    ) -> AbstractAsyncContextManager[EngineWorker]:
        """A worker, polling while the context manager is open. Leaving it waits for nothing that is under way.

        Args:
            sandboxed: Run workflows in the SDK's sandbox, as in production; without, they run several times as fast.
        """
        ...

    def shuffle(self, seed: int | None) -> None:
        """From now on let what could happen in this or that order happen in one of chance, by this seed.

        Args:
            seed: None: in the usual order. An engine whose order is not its own ignores all this.
        """
        ...

    def is_worn_out(self) -> bool:
        """Whether the next world had better get a new one."""
        ...


@dataclass(frozen=True)
class EngineKind:
    """A kind of engine: how it is called, and how one is started.

    Attributes:
        start: Makes the context manager in which one engine lives.
        about: What it is, in half a line.
        loop_factory: Makes the event loop that suits it best; None: any does.
    """

    name: str
    about: str
    start: Callable[[], AbstractAsyncContextManager[Engine]]
    loop_factory: Callable[[], AbstractEventLoop] | None = None


ENTRY_POINTS = "invoice_mcp.engines"
"""The group of entry points by which an installed project offers engines: name = module:KIND, an `EngineKind`."""

_registered: dict[str, EngineKind] = {}


def register(kind: EngineKind) -> None:
    """Offer another engine in this process, as from your conftest.py: then `--world` has it too.

    For `python -m invoice_mcp.testing` to have it, and so for the command that a failing test prints, name it as an
    entry point in your pyproject.toml:

        [project.entry-points."invoice_mcp.engines"]
        mine = "my_tests.engine:KIND"

    Raises:
        ValueError: There is another engine of that name.
    """
    if kinds().get(kind.name, kind) != kind:
        raise ValueError(f"There is an engine {kind.name!r} already: give yours another name.")
    _registered[kind.name] = kind


def kinds() -> Mapping[str, EngineKind]:
    """Every engine there is, by name: our own, of which the first is the default, then those of other projects.

    Raises:
        ValueError: Another project's entry point is broken, or takes a name that is taken.
    """
    # Here, as the engines import this module.
    from invoice_mcp.testing.engines import servers as here  # noqa: PLC0415
    from invoice_mcp.testing.engines import simulated as in_process  # noqa: PLC0415

    every = (
        EngineKind("time-skipping", "Temporal's time-skipping test server: fast, one clock", here.open_time_skipping),
        EngineKind("real", "the real Temporal server: a clock per workflow, exact deadlines, list", here.open_real),
        EngineKind(
            "simulated",
            "a simulator in this process: thousands of scenarios a minute",
            in_process.open_simulated,
            loop_factory=VirtualTimeLoop,
        ),
    )
    named = {kind.name: kind for kind in every}
    for kind in _installed():
        if named.setdefault(kind.name, kind) != kind:
            raise ValueError(f"Two installed projects, or one and this, call an engine {kind.name!r}.")
    return {**named, **_registered}


@cache
def _installed() -> tuple[EngineKind, ...]:
    return tuple(_load(entry) for entry in entry_points(group=ENTRY_POINTS))


def _load(entry: EntryPoint) -> EngineKind:
    by = f"The entry point {entry.name!r} of {entry.dist.name if entry.dist else 'an unknown project'}"
    try:
        kind = entry.load()
    except (ImportError, AttributeError) as missing:
        raise ValueError(f"{by} names {entry.value}, which can't be loaded: {missing}") from missing
    if not isinstance(kind, EngineKind) or kind.name != entry.name:
        raise ValueError(f"{by} must give an EngineKind of that name, and {entry.value} is {kind!r}.")
    return kind
