"""The MCP clients of an episode: over stdio and HTTP, both protocol modes, with and without forms and tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mcp import Client, MCPError, StdioServerParameters
from mcp.client.context import ClientRequestContext
from mcp.client.stdio import stdio_client
from mcp_types import (
    CallToolResult,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    TextContent,
)

from invoice_mcp.domain.errors import ErrorCode
from invoice_mcp.testing.chaos import procfs
from invoice_mcp.testing.chaos.journal import Journal
from invoice_mcp.testing.chaos.pipes import stderr_of
from invoice_mcp.testing.chaos.processes import RESTART_AFTER, Cluster
from invoice_mcp.testing.chaos.schedule import ClientKind, Step, Transport
from invoice_mcp.testing.records import Answer
from mcp_temporal_tasks import (
    CreateTaskResult,
    TasksClient,
    WorkflowRun,
    cancel_task,
    get_task,
    parse_task_id,
    task_id_of,
    update_task,
)

LOST, TIMED_OUT, DISCONNECTED = "CONNECTION_LOST", "TIMED_OUT", "DISCONNECTED"
"""How a call can end without an answer: its server went, it took too long, there was no server all the while."""

# Longer than any answer is promised to take.
_GIVES_UP_AFTER = 45.0
_CONNECTS_WITHIN = 40.0
_WAITS_FOR_CONNECTION = 8.0
_POLL = 0.03
_UNANSWERED = frozenset({LOST, TIMED_OUT, DISCONNECTED})
# Repeating it is safe, as their texts say.
_LATER = frozenset({ErrorCode.NO_WORKER, ErrorCode.NO_ANSWER, ErrorCode.TEMPORAL_UNAVAILABLE})


@dataclass(frozen=True)
class Call:
    """One request of a client.

    Attributes:
        code: OK, the code of a refusal, the code of an MCP error as text, or LOST, TIMED_OUT or DISCONNECTED.
        promised: Seconds within which an answer is promised.
    """

    client: str
    server: str
    verb: str
    began: float
    ended: float
    code: str
    promised: float

    @property
    def seconds(self) -> float:
        """It took."""
        return self.ended - self.began


@dataclass(frozen=True)
class Acknowledged:
    """A submission that a server has acknowledged."""

    workflow_id: str
    run_id: str


def an_invoice(seed: int, number: int, dues: str, began: datetime, *, changed: bool = False) -> dict[str, Any]:
    """Invoice `number` of an episode, as JSON for `trigger`; the same whenever it is asked for.

    Args:
        dues: When each line is due, comma-separated: `past`, or seconds after `began`.
        changed: Another content under the same id.
    """
    lines = []
    for line, due in enumerate(dues.split(","), 1):
        when = datetime(2024, 6, 30, tzinfo=UTC) if due == "past" else began + timedelta(seconds=float(due))
        amount = f"{100 * number + line + (1 if changed else 0)}.{line:02}"
        lines.append({"description": f"Widget {line}", "amount": amount, "due_date": when.isoformat()})
    return {"invoice_id": f"CHAOS-{seed}-{number}", "customer": "ACME Corp", "lines": lines}


class HostClient:
    """One client, connected again whenever its connection is lost. On stdio it starts its server each time.

    Attributes:
        answers: Of every call of a tool that was answered, in order.
        calls: Every call, in order.
        acknowledged: Every submission that was acknowledged.
    """

    def __init__(self, name: str, kind: ClientKind, cluster: Cluster, journal: Journal) -> None:
        self.name = name
        self.kind = kind
        self.server = f"serve-{kind.server}"
        self._cluster = cluster
        self._journal = journal
        self._server = cluster.schedule.servers[kind.server]
        self._client: Client | None = None
        self._connected = asyncio.Event()
        self._closing = asyncio.Event()
        self._connected_at = 0.0
        self.answers: list[Answer] = []
        self.calls: list[Call] = []
        self.acknowledged: list[Acknowledged] = []

    # -- the connection ------------------------------------------------------------------------------------

    async def keep_connected(self) -> None:
        """Connect, and again whenever the connection is lost, until `close` is called."""
        while not self._closing.is_set():
            try:
                await self._connect()
            except Exception as error:  # noqa: BLE001 (whatever a client raises whose server is killed)
                self._journal.note(self.name, f"lost its connection: {_words(error)}")
            finally:
                self._client = None
                self._connected.clear()
            pause = self._cluster.restart_after.pop(self.server, RESTART_AFTER)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), pause)

    async def _connect(self) -> None:
        async with AsyncExitStack() as stack:
            transport = await stack.enter_async_context(self._transport())
            options: dict[str, Any] = {
                "mode": "legacy" if self.kind.legacy else "auto",
                "extensions": [TasksClient()] if self.kind.tasks else [],
                "elicitation_callback": _says_yes if self.kind.forms else None,
            }
            async with asyncio.timeout(_CONNECTS_WITHIN):
                client = await stack.enter_async_context(Client(transport, **options))
            self._client, self._connected_at = client, self._journal.now
            self._connected.set()
            self._journal.note(self.name, f"is connected to {self.server}")
            await self._until_lost()

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator[Any]:
        if self._server.transport is Transport.HTTP:
            daemon = self._cluster.daemons[self.server]
            await daemon.listens()
            yield f"http://127.0.0.1:{daemon.port}/mcp"
            return
        self._cluster.pid_file(self.server).unlink(missing_ok=True)
        command, *arguments = self._cluster.stdio_command(self.server)
        parameters = StdioServerParameters(command=command, args=arguments, env=self._cluster.environment)
        with stderr_of(self._cluster.folder / f"{self.server}.log", is_full=self._server.stderr_full) as stderr:
            starting = asyncio.create_task(self._say_start())
            try:
                yield stdio_client(parameters, errlog=stderr)
            finally:
                starting.cancel()

    async def _say_start(self) -> None:
        while (pid := self._cluster.pid(self.server)) is None:
            await asyncio.sleep(_POLL / 10)
        await self._journal.event("start", self.server, f"starts as {pid}")

    async def _until_lost(self) -> None:
        """Return when the server on stdio has gone, or `close` is called."""
        pid = self._cluster.pid(self.server)
        while not self._closing.is_set():
            is_stdio = self._server.transport is Transport.STDIO
            if not self._connected.is_set() or (is_stdio and (pid is None or not procfs.is_alive(pid))):
                self._journal.note(self.name, f"sees that {self.server} has gone")
                return
            await asyncio.sleep(_POLL)

    async def close(self) -> None:
        """Have `keep_connected` leave its server, and return."""
        self._closing.set()

    @property
    def is_connected(self) -> bool:
        """Whether it is, as far as it knows."""
        return self._client is not None

    async def until_ready(self, within: float) -> None:
        """Wait until its server reaches Temporal, but not longer than that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while (await self.call("list", {"limit": 1}))[0] != "OK":
                    await asyncio.sleep(_POLL)

    async def connected(self, within: float = _WAITS_FOR_CONNECTION) -> Client | None:
        """The client, when it is connected; None if it is not in time."""
        try:
            async with asyncio.timeout(within):
                while self._client is None:
                    await self._connected.wait()
        except TimeoutError:
            return None
        return self._client

    # -- what it does --------------------------------------------------------------------------------------

    async def act(self, step: Step, began: datetime, tasks: Sequence[Acknowledged]) -> bool:
        """Do what a step says, and keep what is answered; whether it need not be asked again, as far as that tells.

        Args:
            began: What due dates are counted from.
            tasks: What was acknowledged so far, to any client.
        """
        details, seed = dict(step.details), self._cluster.schedule.seed
        number = int(details.pop("invoice", "0"))
        which = {"workflow_id": f"invoice-CHAOS-{seed}-{number}"}
        match step.verb:
            case "submit" | "submit-changed":
                changed = step.verb == "submit-changed"
                invoice = an_invoice(seed, number, details["lines"], began, changed=changed)
                code, _ = await self.call("trigger", {"invoice": invoice})
            case "approve" | "reject":
                code, _ = await self.call(step.verb, {**which, "approver": self.name})
            case "cancel":
                code, _ = await self.call("cancel", {**which, "reason": f"of {self.name}"})
            case "status":
                code, _ = await self.call("status", {**which, "wait_seconds": int(details.get("wait", "0"))})
            case "list":
                code, _ = await self.call("list", {"limit": 50})
            case "task-get" | "task-decide" | "task-cancel":
                code = await self._task(step.verb, which["workflow_id"], tasks)
            case verb:
                raise ValueError(f"a client does not know how to {verb}")
        return code not in (_UNANSWERED if step.verb in {"status", "list"} else _UNANSWERED | _LATER)

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
        """Call a tool; how it ended (see `Call.code`), and its structured content, None where there is none."""
        asked = dict(arguments)
        if (client := await self._client_for(tool)) is None:
            return DISCONNECTED, None
        about = str(asked.get("workflow_id") or asked.get("invoice", {}).get("invoice_id", ""))
        if tool == "trigger" and self.kind.tasks:
            # By the client itself it would wait for the end of the task.
            call: Awaitable[Any] = client.session.call_tool(tool, asked, _GIVES_UP_AFTER, allow_claimed=True)
        else:
            call = client.call_tool(tool, asked, read_timeout_seconds=_GIVES_UP_AFTER)
        code, answer = await self._timed(tool, about, call, _promised(tool, asked, is_task=self.kind.tasks))
        if isinstance(answer, CreateTaskResult):
            return code, self._acknowledged_task(asked, answer)
        if not isinstance(answer, CallToolResult):
            return code, None
        if answer.is_error:
            self.answers.append(Answer(tool, asked, None, _text(answer)))
            return code, None
        content = dict(answer.structured_content or {})
        self.answers.append(Answer(tool, asked, content, ""))
        if tool == "trigger":
            self.acknowledged.append(Acknowledged(content["workflow_id"], content["run_id"]))
        return code, content

    def _acknowledged_task(self, asked: Mapping[str, Any], created: CreateTaskResult) -> Mapping[str, Any]:
        run = parse_task_id(created.task_id)
        assert run is not None, f"{created.task_id} is no task id"
        self.acknowledged.append(Acknowledged(run.workflow_id, run.run_id))
        content = {"workflow_id": run.workflow_id, "run_id": run.run_id}
        self.answers.append(Answer("trigger", asked, content, ""))
        return content

    async def _task(self, verb: str, workflow_id: str, tasks: Sequence[Acknowledged]) -> str:
        """Ask for the newest task of an invoice, answer its form, or cancel it. Any client may, from its id alone."""
        runs = [each.run_id for each in tasks if each.workflow_id == workflow_id]
        if not runs:
            return "OK"
        if (client := await self._client_for(verb)) is None:
            return DISCONNECTED
        session, task_id = client.session, task_id_of(WorkflowRun(workflow_id, runs[-1]))
        if verb == "task-cancel":
            code, _ = await self._timed(verb, workflow_id, cancel_task(session, task_id), 10)
            return code
        code, task = await self._timed("task-get", workflow_id, get_task(session, task_id), 10)
        if verb == "task-decide" and task is not None and task.input_requests:
            content = {"decision": "approve", "name": self.name}
            answers = {key: {"action": "accept", "content": content} for key in task.input_requests}
            code, _ = await self._timed(verb, workflow_id, update_task(session, task_id, answers), 10)
        return code

    async def _client_for(self, verb: str) -> Client | None:
        began = self._journal.now
        client = await self.connected()
        if client is None:
            self._keep(verb, began, DISCONNECTED, 0)
        return client

    async def _timed(self, verb: str, about: str, call: Awaitable[Any], promised: float) -> tuple[str, Any]:
        began = self._journal.now
        # What has just started may need to wait for its Temporal.
        promised += 5 if began - self._connected_at < 15 else 0
        answer, code = None, "OK"
        asking = asyncio.ensure_future(call)
        await self._journal.event("call", self.name, f"asks to {verb} {about}")
        await self._journal.event(verb, self.name, f"asks to {verb} {about}")
        try:
            answer = await asking
        except MCPError as error:
            code = _code(error)
        except Exception as error:  # noqa: BLE001 (whatever a client raises whose server is killed)
            code = LOST
            self._journal.note(self.name, f"{verb} {about} ended with {_words(error)}")
        if isinstance(answer, CallToolResult) and answer.is_error:
            code = Answer("", {}, None, _text(answer)).code or "NO_CODE"
        if code == LOST and self._server.transport is Transport.HTTP:
            self._connected.clear()
        self._keep(verb, began, code, promised)
        await self._journal.event("answer", self.name, f"is answered {verb} {about}: {code}")
        return code, answer

    def _keep(self, verb: str, began: float, code: str, promised: float) -> None:
        self.calls.append(Call(self.name, self.server, verb, began, self._journal.now, code, promised))


async def _says_yes(
    _context: ClientRequestContext, params: ElicitRequestFormParams | ElicitRequestURLParams
) -> ElicitResult:
    is_task = isinstance(params, ElicitRequestFormParams) and "decision" in params.requested_schema["properties"]
    return ElicitResult(action="accept", content={"decision": "approve"} if is_task else {"approve": True})


def _promised(tool: str, arguments: Mapping[str, Any], *, is_task: bool) -> float:
    """Seconds within which README promises an answer."""
    if tool == "trigger" and is_task:
        return 20.0
    return max(10.0, float(arguments.get("wait_seconds", 0)) + 5.0)


def _code(error: MCPError) -> str:
    words = error.message
    if "timed out" in words.lower():
        return TIMED_OUT
    if error.code == -32000 or "closed" in words.lower():
        return LOST
    return Answer("", {}, None, words).code or f"MCP {error.code}"


def _text(answer: CallToolResult) -> str:
    return "".join(block.text for block in answer.content if isinstance(block, TextContent))


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:200]
