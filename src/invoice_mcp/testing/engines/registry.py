"""The registry of engines: our own, and those of other projects."""

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
    """A kind of engine: its name and how to start one.

    Attributes:
        name: The value of `--world`.
        about: A short description for `--help`.
        start: Returns an async context manager that runs one engine.
        loop_factory: Makes the event loop that suits the engine best; None if any does.

    Example:
        KIND = EngineKind("mine", "Temporal in a container", start=open_my_engine)
    """

    name: str
    about: str
    start: Callable[[], AbstractAsyncContextManager[Engine]]
    loop_factory: Callable[[], AbstractEventLoop] | None = None


ENTRY_POINTS = "invoice_mcp.engines"
"""The group of entry points of engines in installed projects: name = module:KIND, where KIND is an `EngineKind`."""

_registered: dict[str, EngineKind] = {}


def register(kind: EngineKind) -> None:
    """Add an engine in this process, for example from your conftest.py, so that `--world` offers it.

    `python -m invoice_mcp.testing`, the command that a failing test prints, finds an engine by its entry point in your
    pyproject.toml:

        [project.entry-points."invoice_mcp.engines"]
        mine = "my_tests.engine:KIND"

    Raises:
        ValueError: Another engine has that name.
    """
    if kinds().get(kind.name, kind) != kind:
        raise ValueError(f"There is an engine {kind.name!r} already: give yours another name.")
    _registered[kind.name] = kind


def kinds() -> Mapping[str, EngineKind]:
    """The available engines by name: our own, of which the first is the default, then those of other projects.

    >>> kinds()["real"].name
    'real'

    Raises:
        ValueError: An entry point can't be loaded, or uses the name of another engine.
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
