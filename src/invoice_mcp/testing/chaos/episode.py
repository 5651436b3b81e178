"""One episode: start, act while faults come, heal, wait, judge, end, and look at what is left behind."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from temporalio.client import WorkflowHistory
from temporalio.service import RPCError

from invoice_mcp.domain.names import WORKFLOW_TYPE
from invoice_mcp.domain.report import InvoiceReport
from invoice_mcp.testing.chaos import judgement
from invoice_mcp.testing.chaos.clients import Call, HostClient
from invoice_mcp.testing.chaos.clock import Clock
from invoice_mcp.testing.chaos.evidence import Evidence, Execution, StrictReplay, damaged
from invoice_mcp.testing.chaos.faults import Injector
from invoice_mcp.testing.chaos.gateway import Gateway
from invoice_mcp.testing.chaos.journal import Entry, Journal
from invoice_mcp.testing.chaos.judgement import Finding
from invoice_mcp.testing.chaos.processes import TEMPORAL, Cluster, dev_servers
from invoice_mcp.testing.chaos.schedule import ClockKind, Home, Schedule, Step
from invoice_mcp.testing.chaos.storage import Storage, storage_of
from invoice_mcp.testing.records import ToolRefused
from temporal_replay import Recording, write_recording

ENDS_WITHIN = 90.0
"""Seconds after healing in which every invoice has to end, and every client to be connected again."""

_BEGINS_WITHIN = 60.0
_ACTS_WITHIN = 60.0
_LEAVES_WITHIN = 20.0
# Until nothing was asked for so long, or so long altogether.
_QUIET, _GOES_ON_FOR = 2.5, 12.0
_SAMPLES = 0.1
_PATIENCE = 4
_REPEATS, _AGAIN_AFTER = 3, 0.5


@dataclass(frozen=True)
class Verdict:
    """What came of an episode.

    Attributes:
        seconds: It took.
        findings: What is not as promised; none where all is well.
        invoices: How many runs of invoices there were, by how they ended.
        faults: How often each fault was met.
        missed: Faults of the schedule that hit nobody.
        payments: How many were made.
        replayed: How many histories were replayed.
        healed_in: Seconds from healing until every invoice had ended.
    """

    schedule: Schedule
    seconds: float
    findings: tuple[Finding, ...]
    invoices: Counter[str]
    faults: Counter[str]
    missed: int
    payments: int
    replayed: int
    healed_in: float
    calls: tuple[Call, ...]
    timeline: tuple[Entry, ...]


async def run_episode(schedule: Schedule, replay: StrictReplay, keep: Path | None = None) -> Verdict:
    """Run one episode, and judge it.

    Args:
        replay: What histories are replayed by.
        keep: Where logs and databases are kept; None: nowhere.

    Raises:
        OSError: The schedule needs to mount, and this process may not; or libfaketime, and there is none.
    """
    folder = Path(tempfile.mkdtemp(prefix="invoice-mcp-chaos-"))
    try:
        with storage_of(folder / "home", mounts=schedule.home is Home.MOUNT) as storage:
            try:
                return await _Episode(schedule, replay, folder, storage).run()
            finally:
                # While the home is mounted, if it is.
                if keep is not None:
                    shutil.copytree(folder, keep, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Episode:
    def __init__(self, schedule: Schedule, replay: StrictReplay, folder: Path, storage: Storage) -> None:
        self._schedule = schedule
        self._replay = replay
        self._storage = storage
        self._journal = Journal(folder / "journal.jsonl")
        self._gateway = Gateway(schedule.seed, self._journal, schedule.erp, schedule.gateway, schedule.lines)
        self._folder = folder
        self._findings: list[Finding] = []
        self._invoices: Counter[str] = Counter()
        self._replayed = 0
        self._healed_in = 0.0

    async def run(self) -> Verdict:
        (self._folder / "schedule.txt").write_text(str(self._schedule), encoding="utf-8")
        began = time.monotonic()
        home = self._folder / "home"
        async with self._gateway.serving():
            urls = self._gateway.erp_url, self._gateway.payments_url
            clock = Clock(self._folder / "clock", can_jump=self._schedule.clock is ClockKind.FAKE)
            self._cluster = Cluster(self._folder, self._schedule, self._journal, *urls, clock.environment)
            self._injector = Injector(self._cluster, self._journal, self._storage, clock)
            clients = [
                HostClient(f"client-{number}", kind, self._cluster, self._journal)
                for number, kind in enumerate(self._schedule.clients)
            ]
            async with self._cluster.running(), self._watching():
                await self._play(clients)
                self._findings += [Finding("left-behind", "", left) for left in await self._cluster.left_behind()]
        self._findings += damaged([home / "temporal.db", self._folder / "dev-server.db"])
        calls = tuple(call for client in clients for call in client.calls)
        is_fake = self._schedule.clock is ClockKind.FAKE
        allowance = judgement.LATE_BY_FAKE_CLOCK if is_fake else judgement.LATE_BY
        self._findings += judgement.late(calls, self._injector.stops, allowance)
        full = sum(server.stderr_full for server in self._schedule.servers)
        return Verdict(
            self._schedule,
            time.monotonic() - began,
            tuple(self._findings),
            self._invoices,
            self._gateway.faults + self._injector.done + Counter({"full-pipe": full}),
            self._injector.missed,
            len(self._gateway.payments),
            self._replayed,
            self._healed_in,
            calls,
            tuple(self._journal.entries),
        )

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        """Look all the while how many servers write the embedded database."""

        async def watch() -> None:
            while True:
                found = dev_servers(self._cluster.home)
                if len(found) > 1:
                    self._findings.append(Finding("two-servers", TEMPORAL, "; ".join(map(str, found))))
                    return
                await asyncio.sleep(_SAMPLES)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _play(self, clients: list[HostClient]) -> None:
        self._injector.aim()
        connections = [asyncio.create_task(client.keep_connected()) for client in clients]
        try:
            await asyncio.gather(*(client.connected(_BEGINS_WITHIN) for client in clients))
            await asyncio.gather(*(client.until_ready(_BEGINS_WITHIN) for client in clients if client.is_connected))
            await self._cluster.until_working(_BEGINS_WITHIN)
            began = datetime.now(UTC)
            self._journal.note("episode", "begins to act")
            self._injector.begin()
            acts = self._begin_acts(clients, began)
            await asyncio.wait(acts, timeout=_ACTS_WITHIN)
            await self._let_go_on()
            await self._heal()
            # What is under way is answered now, or will never be.
            await asyncio.wait(acts, timeout=_ACTS_WITHIN)
            await self._judge(clients)
        finally:
            for client in clients:
                await client.close()
            _, pending = await asyncio.wait(connections, timeout=_LEAVES_WITHIN)
            for task in pending:
                self._findings.append(Finding("left-behind", "", f"a client could not leave within {_LEAVES_WITHIN} s"))
                task.cancel()
            if pending:
                await asyncio.wait(pending, timeout=_LEAVES_WITHIN)
        self._findings += [Finding("left-behind", "", wrong) for wrong in await self._cluster.end()]

    def _begin_acts(self, clients: list[HostClient], began: datetime) -> list[asyncio.Task[None]]:
        """Begin all that clients do. Of one invoice a step waits for the one before, unless both are of one moment, or
        the step says that it does not wait."""
        last: dict[str, list[asyncio.Task[None]]] = {}
        races: dict[str, list[asyncio.Task[None]]] = {}
        moments: dict[str, float] = {}
        acts = []
        for number, step in enumerate(each for each in self._schedule.steps if each.actor.startswith("client-")):
            is_free = step.details.get("waits") == "no" or "invoice" not in step.details
            invoice = f"free {number}" if is_free else step.details["invoice"]
            earlier, moment = last.get(invoice, []), step.when.seconds
            is_race = moments.get(invoice) == moment
            before = races.get(invoice, []) if is_race else earlier
            act = asyncio.create_task(self._act(clients, step, began, before))
            last[invoice] = [*earlier, act] if is_race else [act]
            races[invoice], moments[invoice] = before, moment
            acts.append(act)
        return acts

    async def _act(
        self, clients: list[HostClient], step: Step, began: datetime, before: list[asyncio.Task[None]]
    ) -> None:
        if step.when.event:
            raise ValueError(f"clients act at times, not at events: {step}")
        await asyncio.sleep(step.when.seconds)
        if before:
            await asyncio.wait(before)
        number = int(step.actor.partition("-")[2])
        for _ in range(_REPEATS):
            # Whose host has just gone uses another one. What was lost is asked again, which is promised to be safe.
            order = [*clients[number:], *clients[:number]]
            able = [each for each in order if each.kind.tasks or not step.verb.startswith("task")]
            client = next((each for each in able if each.is_connected), able[0] if able else None)
            known = [each for one in clients for each in one.acknowledged]
            if client is None or await client.act(step, began, known):
                return
            await asyncio.sleep(_AGAIN_AFTER)

    async def _let_go_on(self) -> None:
        """Let what clients have begun meet the gateway for a while, before it answers well."""
        self._journal.note("episode", "has acted")
        before = -1
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOES_ON_FOR):
                while before != len(self._gateway.asked):
                    before = len(self._gateway.asked)
                    await asyncio.sleep(_QUIET)

    async def _heal(self) -> None:
        await self._injector.heal()
        self._gateway.heal()
        self._journal.note("episode", "heals")
        self._healed_at = time.monotonic()

    async def _judge(self, clients: list[HostClient]) -> None:
        """Wait until all have ended, and look at everything."""
        await asyncio.gather(*(client.connected(ENDS_WITHIN) for client in clients))
        missing = [client.name for client in clients if await client.connected(0.01) is None]
        self._findings += [Finding("stuck", name, "is not connected again after healing") for name in missing]
        if len(missing) == len(clients):
            return
        try:
            evidence = await self._evidence()
            executions = await evidence.until_ended(ENDS_WITHIN)
            self._healed_in = time.monotonic() - self._healed_at
            await self._gateway.idle()
            await self._look(evidence, executions, [client for client in clients if client.name not in missing])
        except (RPCError, RuntimeError, TimeoutError) as error:
            self._findings.append(Finding("unjudged", TEMPORAL, f"{type(error).__name__}: {error}"))

    async def _evidence(self) -> Evidence:
        async with asyncio.timeout(ENDS_WITHIN):
            while True:
                with suppress(RuntimeError):
                    return await Evidence.of(self._cluster.temporal_address or "")
                await asyncio.sleep(_SAMPLES)

    async def _look(self, evidence: Evidence, executions: list[Execution], clients: list[HostClient]) -> None:
        acknowledged = list(dict.fromkeys(each for client in clients for each in client.acknowledged))
        known = {(each.workflow_id, each.run_id) for each in executions}
        for each in acknowledged:
            run = each.workflow_id, each.run_id
            if run not in known and await evidence.is_there(*run):
                executions.append(Execution(*run, WORKFLOW_TYPE, is_open=False))
        histories = await evidence.histories(executions)

        async def report(workflow_id: str, run_id: str) -> InvoiceReport:
            return await _reported(clients[0], workflow_id, run_id)

        observed = await evidence.observed(executions, report)
        observed = replace(
            observed,
            ledger=judgement.paid_by(self._gateway.payments, evidence.line_runs(histories)),
            answers=tuple(answer for client in clients for answer in client.answers),
            approval_timeout=timedelta(seconds=self._schedule.window),
        )
        self._findings += judgement.lost(acknowledged, observed.runs)
        self._findings += judgement.stuck(observed.runs, ENDS_WITHIN)
        self._findings += judgement.broken_rules(observed)
        self._findings += judgement.contradicted(observed.answers, observed)
        unreplayable = await self._replay.findings(histories)
        self._findings += unreplayable
        self._keep_histories({each.about for each in unreplayable}, histories)
        self._replayed = len(histories)
        self._invoices = Counter(run.status or run.temporal_status for run in observed.runs)

    def _keep_histories(self, workflow_ids: set[str], histories: dict[Execution, WorkflowHistory]) -> None:
        """Write what does not replay beside the logs, as `invoice-mcp histories check` takes it."""
        folder = self._folder / "unreplayable"
        for execution, history in histories.items():
            if execution.workflow_id in workflow_ids:
                write_recording(Recording.of(history), folder / f"{execution.workflow_id}.{execution.run_id}.json")


async def _reported(client: HostClient, workflow_id: str, run_id: str) -> InvoiceReport:
    """What the tool `status` reports, asked some times: a worker may just have begun."""
    for _ in range(_PATIENCE):
        _, content = await client.call("status", {"workflow_id": workflow_id, "run_id": run_id})
        if content is not None:
            return InvoiceReport.model_validate(content)
    refusals = [answer.refusal for answer in client.answers if answer.content is None]
    raise ToolRefused(refusals[-1] if refusals else "no answer")
