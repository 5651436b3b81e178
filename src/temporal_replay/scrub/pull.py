"""Fetches histories from a live namespace, scrubs them, proves that each still replays, and only then writes them."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError

from temporal_replay.commands.command import UnknownCommandError
from temporal_replay.commands.diff import align_commands
from temporal_replay.commands.emitted import EmittedCommands
from temporal_replay.outcome import Outcome
from temporal_replay.recording import Recording, RecordingError, write_recording
from temporal_replay.replay.pool import TIME_LIMIT
from temporal_replay.replay.replayer import InProcessReplayer, commands_by_task
from temporal_replay.replay.target import CannotRunError, LoadedTarget, unreachable_message
from temporal_replay.scrub.regenerate import regenerate_outputs
from temporal_replay.scrub.scrubber import Scrubber, scrub_recording

_UNSAFE_FILE_CHARS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class PullResult:
    """What became of one workflow that the query found.

    Attributes:
        path: Where it was written; None if it was not.
        why_not: Why not; "" if it was.
    """

    workflow_id: str
    path: Path | None = None
    error: str = ""


@dataclass(frozen=True)
class Puller:
    """Where histories go, and how they are scrubbed.

    Attributes:
        code: The code that they run with: what does not replay to the letter with it can't be scrubbed.
        folder: Where they are written.
        keep: Fields of payloads whose texts steer the code.
        time_limit: Seconds for one replay.
    """

    target: LoadedTarget
    folder: Path
    keep: Collection[str] = ()
    time_limit: float = TIME_LIMIT

    async def pull(
        self, client: Client, query: str, *, limit: int, on_result: Callable[[PullResult], None] = lambda _: None
    ) -> list[PullResult]:
        """Write the history of each workflow that a query finds, without what people wrote in it.

        Args:
            query: As `temporal workflow list --query` takes it.
            limit: At most so many, the latest first.
            told: Called with what became of each.

        Raises:
            CannotRunError: Temporal can't be reached, or does not understand the query; or the folder can't be written.
        """
        found = []
        async for execution in _list(client, query, limit):
            found.append(await self._pull(client, execution))
            on_result(found[-1])
        return found

    async def _pull(self, client: Client, execution: WorkflowExecution) -> PullResult:
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        try:
            fetched = await Recording.of(await handle.fetch_history()).decoded(self.target.codec)
            recording = await scrub_and_prove(fetched, self.target, keep=self.keep, time_limit=self.time_limit)
            origin = {"pulled": datetime.now(UTC).date().isoformat(), "temporalio": version("temporalio")}
            name = _UNSAFE_FILE_CHARS.sub("-", recording.workflow_id)[:100]
            path = self.folder / f"{name}.{execution.run_id.rpartition('-')[2]}.json"
        except (RecordingError, UnknownCommandError) as error:
            return PullResult(execution.id, error=str(error))
        except RPCError as error:
            return PullResult(execution.id, error=f"Temporal refuses: {error.message}")
        try:
            write_recording(replace(recording, recorded_with=origin), path)
        except OSError as error:
            if isinstance(error, FileExistsError) and path.exists():
                return PullResult(execution.id, error=f"{path} exists; a recording is never written over")
            raise CannotRunError(f"{path} can't be written: {error.strerror or error}. Look at --into") from None
        return PullResult(execution.id, path)


async def _list(client: Client, query: str, limit: int) -> AsyncIterator[WorkflowExecution]:
    """What a query finds. What goes wrong between two of them is not told as an error of Temporal's."""
    try:
        async for execution in client.list_workflows(query, limit=limit):
            yield execution
    except RPCError as error:
        raise CannotRunError(f"Temporal refuses: {error.message}. Look at --query, --address and --namespace") from None
    except (RuntimeError, OSError) as error:
        raise CannotRunError(unreachable_message(error)) from None


async def scrub_and_prove(
    recording: Recording, target: LoadedTarget, *, keep: Collection[str] = (), time_limit: float = TIME_LIMIT
) -> Recording:
    """A scrubbed copy of a recording, that replays to the letter with this code.

    Raises:
        RecordingError: It does not replay, before or after; or holds what can't be scrubbed.
        UnknownCommandError: It holds a command that strict replay does not know.
    """
    before, _ = await _replay(recording, target, time_limit)
    if before.problem or before.drift:
        raise RecordingError(
            f"it does not replay to the letter with this code: pull with the code it runs with. {_explain(before)}"
        )
    # A new key each time, forgotten at once: nobody can try out which texts were there.
    scrubbed = scrub_recording(recording, Scrubber(secrets.token_bytes(32), keep))
    during, emitted = await _replay(scrubbed, target, time_limit)
    if during.problem or emitted is None:
        raise RecordingError(
            "once scrubbed it does not replay. A text that steers the code must be kept: name its field with --keep. "
            f"{_explain(during)}"
        )
    sources = {
        old.event_id: new.source
        for _, old, new in align_commands(*commands_by_task(scrubbed, emitted))
        if old and new and new.source
    }
    regenerated = regenerate_outputs(scrubbed, sources)
    after, _ = await _replay(regenerated, target, time_limit)
    if after.problem or after.drift:
        raise RecordingError(f"once scrubbed it does not replay to the letter. {_explain(after)}")
    return regenerated


def _explain(outcome: Outcome) -> str:
    if outcome.problem:
        return f"{outcome.problem.message}\n{outcome.problem.detail}".strip()
    return "; ".join(f"{drift.command}: {drift.field}" for drift in outcome.drift)


async def _replay(
    recording: Recording, target: LoadedTarget, time_limit: float
) -> tuple[Outcome, EmittedCommands | None]:
    async def one() -> AsyncIterator[tuple[str, Recording]]:
        yield "", recording

    found: list[tuple[Outcome, EmittedCommands | None]] = []
    replayer = InProcessReplayer(target, strict=True)
    task = asyncio.create_task(replayer.replay(one(), lambda outcome: found.append((outcome, replayer.emitted))))
    # Not cancelled: a replay that hangs can't be, and ends with the process.
    await asyncio.wait([task], timeout=time_limit)
    if not task.done():
        raise RecordingError(f"its replay did not end within {time_limit:g} s")
    await task
    return found[0]
