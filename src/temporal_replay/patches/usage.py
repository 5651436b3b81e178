"""Measures, by replay, which patches a history needs: the old branches it takes, and its markers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict
from temporalio.client import WorkflowHistory
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

from temporal_replay.commands.recorded import patch_markers
from temporal_replay.patches.source import merge_calls
from temporal_replay.recording import Recording, RecordingError
from temporal_replay.replay.pool import TIME_LIMIT
from temporal_replay.replay.target import LoadedTarget


class PatchUsage(BaseModel):
    """Which patches one history needs.

    Attributes:
        name: Name of the recording or open workflow.
        old: Patches whose old branch it takes.
        markers: Patches it has markers of; the code must ask for these, or deprecate them.
        calls: Patches that the code asks for during replay: `patched` or `deprecate_patch`, by patch id.
        replays: Whether it replays. If not, `old` and `calls` are unknown.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    old: frozenset[str] = frozenset()
    markers: frozenset[str] = frozenset()
    calls: Mapping[str, str] = {}
    replays: bool = True


async def measure_patch_usage(
    recordings: Sequence[tuple[str, Recording]],
    target: LoadedTarget,
    *,
    time_limit: float = TIME_LIMIT,
    on_usage: Callable[[PatchUsage], None] = lambda _: None,
) -> list[PatchUsage]:
    """Replay recordings in this process, and return which patches each needs.

    Args:
        time_limit: Seconds for one recording. A slower one counts as not replaying. Its replay can't be cancelled and
            may never end, so the process then has to exit through `os._exit`.
        on_usage: Called with each result.
    """
    found: list[PatchUsage] = []
    while left := recordings[len(found) :]:
        results: asyncio.Queue[PatchUsage | None] = asyncio.Queue()
        replay = asyncio.create_task(_replay(left, target, results.put_nowait))
        replay.add_done_callback(partial(_put_sentinel, results))
        try:
            while (usage := await asyncio.wait_for(results.get(), time_limit)) is not None:
                found.append(usage)
                on_usage(usage)
            await replay
        except TimeoutError:
            # The hanging replay is left running; the next round replays the rest with a new replayer.
            for name, recording in recordings[len(found) :][:1]:
                found.append(PatchUsage(name=name, markers=_markers(recording), replays=False))
                on_usage(found[-1])
    return found


def _put_sentinel(results: asyncio.Queue[PatchUsage | None], _replay: asyncio.Task[None]) -> None:
    results.put_nowait(None)


async def _replay(
    recordings: Sequence[tuple[str, Recording]], target: LoadedTarget, on_usage: Callable[[PatchUsage], None]
) -> None:
    observer = _PatchObserver()
    current = PatchUsage(name="")

    async def histories() -> AsyncIterator[WorkflowHistory]:
        nonlocal current
        for name, recording in recordings:
            observer.old, observer.calls = set(), {}
            current = PatchUsage(name=name, markers=_markers(recording))
            try:
                decoded = await recording.decoded(target.codec)
            except RecordingError:
                on_usage(current.model_copy(update={"replays": False}))
                continue
            yield decoded.history

    async with target.create_replayer(observer).workflow_replay_iterator(histories()) as results:
        async for result in results:
            seen = {
                "old": frozenset(observer.old),
                "calls": observer.calls,
                "replays": result.replay_failure is None,
            }
            on_usage(current.model_copy(update=seen))


class _PatchObserver(WorkflowRunner):
    """Runs workflows without the sandbox, and observes which patches they ask for and whose old branch they take."""

    def __init__(self) -> None:
        self._inner = UnsandboxedWorkflowRunner()
        self.old: set[str] = set()
        self.calls: dict[str, str] = {}

    def prepare_workflow(self, defn: Any) -> None:
        self._inner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        instance: Any = self._inner.create_instance(det)
        ask = instance.workflow_patch

        def observe(id: str, *, deprecated: bool, **options: Any) -> bool:  # noqa: A002 (the SDK's name for it)
            self.calls = merge_calls(self.calls, {id: "deprecate_patch" if deprecated else "patched"})
            is_patched: bool = ask(id, deprecated=deprecated, **options)
            if not is_patched and not deprecated:
                self.old.add(id)
            return is_patched

        instance.workflow_patch = observe
        found: WorkflowInstance = instance
        return found


def _markers(recording: Recording) -> frozenset[str]:
    """Patches with a marker that was not deprecated when recorded: the code has to ask for these."""
    return frozenset(name for name, is_deprecated in patch_markers(recording.events).items() if not is_deprecated)
