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
    """The result for one workflow.

    Attributes:
        path: The file that was written; None after an error.
        error: Why no file was written; "" if one was.
    """

    workflow_id: str
    path: Path | None = None
    error: str = ""


@dataclass(frozen=True)
class Puller:
    """Pulls histories into a folder.

    Attributes:
        target: The code that the workflows run with. A history that does not replay with it can't be scrubbed.
        folder: Where recordings are written.
        keep: Names of payload fields whose texts control the code's decisions, and so must not be replaced.
        time_limit: Seconds for one replay.

    Example:
        puller = Puller(Target("my_app.worker:WORKFLOWS").load(), Path("histories/pulled"), keep={"status"})
        results = await puller.pull(client, 'WorkflowType = "Order"', limit=100)
    """

    target: LoadedTarget
    folder: Path
    keep: Collection[str] = ()
    time_limit: float = TIME_LIMIT

    async def pull(
        self, client: Client, query: str, *, limit: int, on_result: Callable[[PullResult], None] = lambda _: None
    ) -> list[PullResult]:
        """Scrub and write the history of each workflow that a query finds.

        Args:
            query: A list filter, as `temporal workflow list --query` takes it.
            limit: Number of workflows at most, latest first.
            on_result: Called with each result.

        Raises:
            CannotRunError: Temporal can't be reached or rejects the query, or the folder can't be written.
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
            return PullResult(execution.id, error=f"Temporal rejects the request: {error.message}")
        try:
            write_recording(replace(recording, recorded_with=origin), path)
        except OSError as error:
            if isinstance(error, FileExistsError) and path.exists():
                return PullResult(
                    execution.id,
                    error=f"{path} exists. Recordings are never overwritten",
                )
            raise CannotRunError(f"{path} can't be written: {error.strerror or error}. Check --into") from None
        return PullResult(execution.id, path)


async def _list(client: Client, query: str, limit: int) -> AsyncIterator[WorkflowExecution]:
    """The workflows that a query finds. Errors of the query become `CannotRunError`; errors of the loop body do not."""
    try:
        async for execution in client.list_workflows(query, limit=limit):
            yield execution
    except RPCError as error:
        raise CannotRunError(
            f"Temporal rejects the query: {error.message}. Check --query, --address and --namespace"
        ) from None
    except (RuntimeError, OSError) as error:
        raise CannotRunError(unreachable_message(error)) from None


async def scrub_and_prove(
    recording: Recording, target: LoadedTarget, *, keep: Collection[str] = (), time_limit: float = TIME_LIMIT
) -> Recording:
    """Pseudonymize a recording, and prove that the result replays with this code, value by value.

    The original is replayed, then the scrubbed copy, then the copy with the outputs that the code emitted for it.

    Raises:
        RecordingError: The recording does not replay, before or after, or it holds something that can't be scrubbed.
        UnknownCommandError: The recording has a command of an unknown kind.
    """
    before, _ = await _replay(recording, target, time_limit)
    if before.problem or before.drift:
        raise RecordingError(
            "it does not replay exactly with this code: pull with the code that the workflow runs with. "
            f"{_explain(before)}"
        )
    # A new key for each recording, which is not kept: nobody can test guesses of the original texts.
    scrubbed = scrub_recording(recording, Scrubber(secrets.token_bytes(32), keep))
    during, emitted = await _replay(scrubbed, target, time_limit)
    if during.problem or emitted is None:
        raise RecordingError(
            "the scrubbed copy does not replay. Name the fields whose texts control the code with --keep. "
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
        raise RecordingError(f"the scrubbed copy does not replay exactly. {_explain(after)}")
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
    # A hanging replay can't be cancelled. It ends with the process.
    await asyncio.wait([task], timeout=time_limit)
    if not task.done():
        raise RecordingError(f"its replay did not end within {time_limit:g} s")
    await task
    return found[0]
