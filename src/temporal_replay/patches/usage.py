"""Which patches code asks for: by its text, and by what it asks while it is replayed."""

from __future__ import annotations

import ast
import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict
from temporalio.client import WorkflowHistory
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

from temporal_replay.commands.recorded import patch_markers
from temporal_replay.recording import Recording, Unreadable
from temporal_replay.replay.pool import TIME_LIMIT
from temporal_replay.replay.target import Code

_CALLS = ("patched", "deprecate_patch")


class Needs(BaseModel):
    """What one run needs of the patches in the code.

    Attributes:
        old: Patches of which it takes the old way.
        markers: Patches that it has markers of, and that so must be asked for, or deprecated.
        asked: Patches that the code asks for while it is replayed, and how: `patched` or `deprecate_patch`.
        replays: Whether it replays at all; otherwise nothing is known.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    old: frozenset[str] = frozenset()
    markers: frozenset[str] = frozenset()
    asked: Mapping[str, str] = {}
    replays: bool = True


def patches_in(workflows: Iterable[type]) -> tuple[dict[str, str], int]:
    """The patches that the text of the workflows speaks of, and how: `patched` or `deprecate_patch`.

    In their modules and in what these import of the same package. Only names that are written out where they are asked
    for, or are constants that can be reached from that module.

    Returns:
        The patches, and how many calls ask for one whose name is none of these: only replay tells which.
    """
    found: dict[str, str] = {}
    unread = 0
    for module, tree in _modules_of(workflows):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (how := _called(node.func)) in _CALLS:
                given = [*node.args[:1], *(each.value for each in node.keywords if each.arg == "id")]
                if name := _text(given[0], module) if given else "":
                    found = merged(found, {name: how})
                else:
                    unread += 1
    return found, unread


def merged(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """Both; what is asked for in one place and deprecated in another still has two ways."""
    return {
        name: "patched" if "patched" in (one.get(name), other.get(name)) else "deprecate_patch"
        for name in {**one, **other}
    }


def _modules_of(workflows: Iterable[type]) -> Iterator[tuple[ModuleType, ast.Module]]:
    """The modules of workflows and what they import, as far as it is of the same package."""
    left = sorted({workflow.__module__ for workflow in workflows})
    tops, seen = {name.partition(".")[0] for name in left}, set(left)
    while left:
        module = sys.modules.get(left.pop())
        path = getattr(module, "__file__", None)
        if module is None or path is None or not path.endswith(".py"):
            continue
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
        yield module, tree
        fresh = {name for name in _imports(tree, module.__package__ or "") if name.partition(".")[0] in tops} - seen
        seen |= fresh
        left += sorted(fresh)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            source = resolve_name(name, package) if package or not node.level else ""
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _text(node: ast.expr, module: ModuleType) -> str:
    value = _value(node, module)
    # As it is sent: a member of an enum of texts calls itself something else.
    return str.__str__(value) if isinstance(value, str) else ""


def _value(node: ast.expr, module: ModuleType) -> object:
    """What a constant, a name or a dotted name stands for; None if that is not known."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return getattr(module, node.id, None)
        case ast.Attribute():
            return getattr(_value(node.value, module), node.attr, None)
        case _:
            return None


class _Asking(WorkflowRunner):
    """Runs workflows without the sandbox; notes which patches they ask for, and of which they take the old way."""

    def __init__(self) -> None:
        self._inner = UnsandboxedWorkflowRunner()
        self.old: set[str] = set()
        self.asked: dict[str, str] = {}

    def prepare_workflow(self, defn: Any) -> None:
        self._inner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        instance: Any = self._inner.create_instance(det)
        ask = instance.workflow_patch

        def asked(id: str, *, deprecated: bool, **options: Any) -> bool:  # noqa: A002 (the SDK's name for it)
            self.asked = merged(self.asked, {id: "deprecate_patch" if deprecated else "patched"})
            is_patched: bool = ask(id, deprecated=deprecated, **options)
            if not is_patched and not deprecated:
                self.old.add(id)
            return is_patched

        instance.workflow_patch = asked
        found: WorkflowInstance = instance
        return found


async def needs_of(
    recordings: Sequence[tuple[str, Recording]],
    code: Code,
    *,
    time_limit: float = TIME_LIMIT,
    told: Callable[[Needs], None] = lambda _: None,
) -> list[Needs]:
    """What each recording needs, found by replaying it in this process.

    Args:
        time_limit: Seconds for one recording. One that takes longer does not replay, and may go on for ever: then this
            process has to be left as `os._exit` does.
        told: Called with what each needs.
    """
    found: list[Needs] = []
    while left := recordings[len(found) :]:
        seen: asyncio.Queue[Needs | None] = asyncio.Queue()
        replay = asyncio.create_task(_replay(left, code, seen.put_nowait))
        replay.add_done_callback(partial(_end, seen))
        try:
            while (needs := await asyncio.wait_for(seen.get(), time_limit)) is not None:
                found.append(needs)
                told(needs)
            await replay
        except TimeoutError:
            # Not cancelled: a replay that hangs can't be. The others go on with another replayer.
            for name, recording in recordings[len(found) :][:1]:
                found.append(Needs(name=name, markers=_markers(recording), replays=False))
                told(found[-1])
    return found


def _end(seen: asyncio.Queue[Needs | None], _replay: asyncio.Task[None]) -> None:
    seen.put_nowait(None)


async def _replay(recordings: Sequence[tuple[str, Recording]], code: Code, told: Callable[[Needs], None]) -> None:
    asking = _Asking()
    turn = Needs(name="")

    async def histories() -> AsyncIterator[WorkflowHistory]:
        nonlocal turn
        for name, recording in recordings:
            asking.old, asking.asked = set(), {}
            turn = Needs(name=name, markers=_markers(recording))
            try:
                decoded = await recording.decoded(code.codec)
            except Unreadable:
                told(turn.model_copy(update={"replays": False}))
                continue
            yield decoded.history

    async with code.replayer_with(asking).workflow_replay_iterator(histories()) as results:
        async for result in results:
            seen = {"old": frozenset(asking.old), "asked": asking.asked, "replays": result.replay_failure is None}
            told(turn.model_copy(update=seen))


def _markers(recording: Recording) -> frozenset[str]:
    """The patches of whose way it is, so that the code has to ask for them."""
    return frozenset(name for name, is_deprecated in patch_markers(recording.events).items() if not is_deprecated)
