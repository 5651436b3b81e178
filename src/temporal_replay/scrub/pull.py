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

from temporal_replay.commands.command import UnknownCommand
from temporal_replay.commands.diff import pairs
from temporal_replay.commands.emitted import Emitted
from temporal_replay.outcome import Outcome
from temporal_replay.recording import Recording, Unreadable, write
from temporal_replay.replay.pool import TIME_LIMIT
from temporal_replay.replay.replayer import Replaying, tasks_of
from temporal_replay.replay.target import CannotRun, Code, away
from temporal_replay.scrub.refill import filled_in
from temporal_replay.scrub.scrubber import Scrub, scrubbed

_NO_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Pulled:
    """What became of one workflow that the query found.

    Attributes:
        path: Where it was written; None if it was not.
        why_not: Why not; "" if it was.
    """

    workflow_id: str
    path: Path | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Puller:
    """Where histories go, and how they are scrubbed.

    Attributes:
        code: The code that they run with: what does not replay to the letter with it can't be scrubbed.
        folder: Where they are written.
        keep: Fields of payloads whose texts steer the code.
        time_limit: Seconds for one replay.
    """

    code: Code
    folder: Path
    keep: Collection[str] = ()
    time_limit: float = TIME_LIMIT

    async def pull(
        self, client: Client, query: str, *, limit: int, told: Callable[[Pulled], None] = lambda _: None
    ) -> list[Pulled]:
        """Write the history of each workflow that a query finds, without what people wrote in it.

        Args:
            query: As `temporal workflow list --query` takes it.
            limit: At most so many, the latest first.
            told: Called with what became of each.

        Raises:
            CannotRun: Temporal can't be reached, or does not understand the query; or the folder can't be written.
        """
        found = []
        async for execution in _listed(client, query, limit):
            found.append(await self._pull(client, execution))
            told(found[-1])
        return found

    async def _pull(self, client: Client, execution: WorkflowExecution) -> Pulled:
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        try:
            fetched = await Recording.of(await handle.fetch_history()).decoded(self.code.codec)
            recording = await scrub_and_prove(fetched, self.code, keep=self.keep, time_limit=self.time_limit)
            origin = {"pulled": datetime.now(UTC).date().isoformat(), "temporalio": version("temporalio")}
            name = _NO_FILE_NAME.sub("-", recording.workflow_id)[:100]
            path = self.folder / f"{name}.{execution.run_id.rpartition('-')[2]}.json"
        except (Unreadable, UnknownCommand) as why:
            return Pulled(execution.id, why_not=str(why))
        except RPCError as error:
            return Pulled(execution.id, why_not=f"Temporal refuses: {error.message}")
        try:
            write(replace(recording, recorded_with=origin), path)
        except OSError as error:
            if isinstance(error, FileExistsError) and path.exists():
                return Pulled(execution.id, why_not=f"{path} exists; a recording is never written over")
            raise CannotRun(f"{path} can't be written: {error.strerror or error}. Look at --into") from None
        return Pulled(execution.id, path)


async def _listed(client: Client, query: str, limit: int) -> AsyncIterator[WorkflowExecution]:
    """What a query finds. What goes wrong between two of them is not told as an error of Temporal's."""
    try:
        async for execution in client.list_workflows(query, limit=limit):
            yield execution
    except RPCError as error:
        raise CannotRun(f"Temporal refuses: {error.message}. Look at --query, --address and --namespace") from None
    except (RuntimeError, OSError) as error:
        raise CannotRun(away(error)) from None


async def scrub_and_prove(
    recording: Recording, code: Code, *, keep: Collection[str] = (), time_limit: float = TIME_LIMIT
) -> Recording:
    """A scrubbed copy of a recording, that replays to the letter with this code.

    Raises:
        Unreadable: It does not replay, before or after; or holds what can't be scrubbed.
        UnknownCommand: It holds a command that strict replay does not know.
    """
    before, _ = await _replayed(recording, code, time_limit)
    if before.problem or before.drift:
        raise Unreadable(
            f"it does not replay to the letter with this code: pull with the code it runs with. {_why(before)}"
        )
    # A new key each time, forgotten at once: nobody can try out which texts were there.
    bare = scrubbed(recording, Scrub(secrets.token_bytes(32), keep))
    during, emitted = await _replayed(bare, code, time_limit)
    if during.problem or emitted is None:
        raise Unreadable(
            "once scrubbed it does not replay. A text that steers the code must be kept: name its field with --keep. "
            f"{_why(during)}"
        )
    sources = {
        old.event_id: new.source for _, old, new in pairs(*tasks_of(bare, emitted)) if old and new and new.source
    }
    filled = filled_in(bare, sources)
    after, _ = await _replayed(filled, code, time_limit)
    if after.problem or after.drift:
        raise Unreadable(f"once scrubbed it does not replay to the letter. {_why(after)}")
    return filled


def _why(outcome: Outcome) -> str:
    if outcome.problem:
        return f"{outcome.problem.told}\n{outcome.problem.detail}".strip()
    return "; ".join(f"{drift.command}: {drift.field}" for drift in outcome.drift)


async def _replayed(recording: Recording, code: Code, time_limit: float) -> tuple[Outcome, Emitted | None]:
    async def one() -> AsyncIterator[tuple[str, Recording]]:
        yield "", recording

    found: list[tuple[Outcome, Emitted | None]] = []
    replaying = Replaying(code, strict=True)
    task = asyncio.create_task(replaying.replay(one(), lambda outcome: found.append((outcome, replaying.emitted))))
    # Not cancelled: a replay that hangs can't be, and ends with the process.
    await asyncio.wait([task], timeout=time_limit)
    if not task.done():
        raise Unreadable(f"its replay did not end within {time_limit:g} s")
    await task
    return found[0]
