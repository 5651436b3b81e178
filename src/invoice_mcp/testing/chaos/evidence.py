"""What there is to see of an episode after healing: every run, its history and reports, and whether it replays."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.domain.names import LINE_WORKFLOW_TYPE, WORKFLOW_TYPE
from invoice_mcp.domain.report import InvoiceReport, PaymentOrder
from invoice_mcp.testing.chaos.judgement import Finding, LineRun
from invoice_mcp.testing.checker.observations import Observations, observe
from invoice_mcp.testing.recordings.target import TARGET
from temporal_replay import InProcessReplayer, Outcome, Recording, RecordingError

_RPC = timedelta(seconds=10)
_POLL = 0.3
# So many are open for certain.
_MANY = 5
_REPLAYS_WITHIN = 120.0
# Is told too early until a replay, where a query came first: docs/upstream/query-before-task.md, "What is open". The
# checker takes it, too (`Trace.may_tell_deadline`).
_TOLD_EARLY = ".approval_deadline"
_ENDS_OF_ACTIVITIES = frozenset(
    {
        EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT,
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
    }
)

Report = Callable[..., Awaitable[InvoiceReport]]


@dataclass(frozen=True)
class Execution:
    """One run of a workflow, of an invoice or a line."""

    workflow_id: str
    run_id: str
    workflow_type: str
    is_open: bool


class Evidence:
    """Looks at Temporal itself, past the servers of the episode.

    Attributes:
        client: Of the episode's Temporal.
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    @classmethod
    async def of(cls, address: str) -> Evidence:
        """Connect to a Temporal.

        Raises:
            RuntimeError: It can't be reached.
        """
        return cls(await Client.connect(address, data_converter=pydantic_data_converter))

    async def executions(self) -> list[Execution]:
        """All that Temporal lists, and of open ones how they are now, if they are few: the list may lag behind.

        Raises:
            RPCError: Temporal can't be reached.
        """
        found = []
        async for each in self.client.list_workflows(rpc_timeout=_RPC):
            is_open = each.status is WorkflowExecutionStatus.RUNNING
            found.append(Execution(each.id, each.run_id, each.workflow_type, is_open))
        if sum(each.is_open for each in found) > _MANY:
            return found
        return [replace(each, is_open=each.is_open and await self._is_open(each)) for each in found]

    async def _is_open(self, execution: Execution) -> bool:
        handle = self.client.get_workflow_handle(execution.workflow_id, run_id=execution.run_id)
        return (await handle.describe(rpc_timeout=_RPC)).status is WorkflowExecutionStatus.RUNNING

    async def until_ended(self, within: float) -> list[Execution]:
        """All executions, as soon as none is open any more, or when the time is over."""
        found: list[Execution] = []
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        found = await self.executions()
                    except RPCError:
                        await asyncio.sleep(_POLL)
                        continue
                    if not any(each.is_open for each in found):
                        return found
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            return found

    async def is_there(self, workflow_id: str, run_id: str) -> bool:
        """Whether Temporal knows a run."""
        try:
            await self.client.get_workflow_handle(workflow_id, run_id=run_id).describe(rpc_timeout=_RPC)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        return True

    async def histories(self, executions: Iterable[Execution]) -> dict[Execution, WorkflowHistory]:
        """The history of each, as it is now."""
        return {
            each: await self.client.get_workflow_handle(each.workflow_id, run_id=each.run_id).fetch_history()
            for each in executions
        }

    async def observed(self, executions: Sequence[Execution], report: Report) -> Observations:
        """What the checker needs of each invoice, but for payments and answers."""
        runs: dict[str, list[str]] = {}
        # The newest is listed first.
        for each in reversed(executions):
            if each.workflow_type == WORKFLOW_TYPE:
                runs.setdefault(each.workflow_id, []).append(each.run_id)
        return await observe(self.client, runs, ledger=(), report=report)

    def line_runs(self, histories: dict[Execution, WorkflowHistory]) -> list[LineRun]:
        """What each workflow of a line was to pay, and when it asked for that."""
        return [
            self._line_run(each, history)
            for each, history in histories.items()
            if each.workflow_type == LINE_WORKFLOW_TYPE
        ]

    def _line_run(self, execution: Execution, history: WorkflowHistory) -> LineRun:
        started = history.events[0].workflow_execution_started_event_attributes
        [order] = self.client.data_converter.payload_converter.from_payloads(started.input.payloads, [PaymentOrder])
        since: datetime | None = None
        to: datetime | None = None
        for event in history.events:
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                since, to = since or event.event_time.ToDatetime(UTC), None
            elif event.event_type in _ENDS_OF_ACTIVITIES:
                to = event.event_time.ToDatetime(UTC)
        return LineRun(execution.run_id, order, since, to)


class StrictReplay:
    """Replays histories with the product's workflows as they are, one after another."""

    def __init__(self) -> None:
        self._code = TARGET.load()
        # Its runners watch one replay at a time.
        self._turn = asyncio.Lock()

    async def findings(self, histories: dict[Execution, WorkflowHistory]) -> list[Finding]:
        """Histories that do not replay to the letter."""
        found: list[Finding] = []

        async def recordings() -> AsyncIterator[tuple[str, Recording]]:
            for execution, history in histories.items():
                try:
                    yield execution.workflow_id, Recording.of(history)
                except RecordingError:
                    # Nothing has run yet.
                    continue

        def add_outcome(outcome: Outcome) -> None:
            if outcome.problem is not None:
                got = f"{outcome.problem.fault}: {outcome.problem.message} {outcome.problem.detail}".strip()
                found.append(Finding("unreplayable", outcome.recording, got))
            found.extend(
                Finding("unreplayable", outcome.recording, f"drift: {drift}")
                for drift in outcome.drift
                if not drift.field.endswith(_TOLD_EARLY)
            )

        async with self._turn:
            replaying = asyncio.create_task(
                InProcessReplayer(self._code, strict=True).replay(recordings(), add_outcome)
            )
            # Not cancelled: a replay that hangs can't be.
            await asyncio.wait([replaying], timeout=_REPLAYS_WITHIN)
        if not replaying.done():
            return [*found, Finding("unreplayable", "all", f"the replay did not end within {_REPLAYS_WITHIN:g} s")]
        await replaying
        return found


def damaged(databases: Iterable[Path]) -> list[Finding]:
    """Databases that SQLite itself finds damaged, or that are not in WAL mode.

    Without it a killed server damages nothing: that takes the end of the machine, which no episode can bring about.
    """
    found = []
    for path in databases:
        if not path.exists():
            continue
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as reading:
                said = "; ".join(str(row[0]) for row in reading.execute("PRAGMA integrity_check(5)"))
        except sqlite3.Error as error:
            said = str(error)
        if said == "ok" and not _is_in_wal_mode(path):
            said = "it is not in WAL mode, as promised: what the machine's end interrupts may be torn"
        if said != "ok":
            found.append(Finding("damaged", path.name, said[:500]))
    return found


def _is_in_wal_mode(database: Path) -> bool:
    # The versions that write and read, in the header of the file (sqlite.org/fileformat.html): 2 is WAL.
    with database.open("rb") as file:
        return file.read(20)[18:] == b"\x02\x02"
