"""Which engines there are: our own, and those of other projects."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from invoice_mcp.testing.engines import servers, simulated
from invoice_mcp.testing.engines.base import Engine
from temporal_simulator import VirtualTimeLoop


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
    every = (
        EngineKind(
            "time-skipping",
            "Temporal's time-skipping test server: fast, one clock",
            servers.open_time_skipping,
        ),
        EngineKind("real", "the real Temporal server: a clock per workflow, exact deadlines, list", servers.open_real),
        EngineKind(
            "simulated",
            "a simulator in this process: thousands of scenarios a minute",
            simulated.open_simulated,
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
