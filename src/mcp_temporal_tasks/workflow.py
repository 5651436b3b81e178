"""The workflow side of a task: reports state, and asks the client questions. Deterministic.

Import it in workflow code within `workflow.unsafe.imports_passed_through()`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

TASK_STATE = "TaskState"
"""Name of the query that returns the `TaskState`."""

TASK_INPUT = "TaskInput"
"""Name of the update that accepts responses, by the keys of their input requests."""

PROTOCOL_ERROR = "io.modelcontextprotocol/error"
"""Type of the ApplicationError that makes a task `failed`; see `protocol_error`."""

_MAX_DIGITS = 10


@dataclass
class TaskState:
    """The answer to the TASK_STATE query of an open workflow. Temporal itself reports that a workflow has closed.

    Attributes:
        message: Progress, for people.
        updated_at: Time of the last change; None means the start of the workflow.
        input_requests: Open requests to the client, by key, such as
            `{"method": "elicitation/create", "params": {...}}`. A key is used once per run; `input_key` adds the run.
        poll_interval_ms: Recommended poll interval from now on; None uses the binding's.
    """

    message: str | None = None
    updated_at: datetime | None = None
    input_requests: dict[str, Any] = field(default_factory=dict)
    poll_interval_ms: int | None = None


def protocol_error(code: int, message: str, data: Any = None) -> ApplicationError:
    """The error that a workflow raises to make its task `failed`, with this JSON-RPC error.

    Any other workflow failure is a tool error: the task is `completed`, with `isError`.

    Example:
        raise protocol_error(-32602, "There is no such service", {"service": service})
    """
    return ApplicationError(message, {"code": code, "data": data}, type=PROTOCOL_ERROR, non_retryable=True)


class TaskInbox:
    """The open input requests of a workflow, and their answers. Serve TASK_STATE and TASK_INPUT with it."""

    def __init__(self) -> None:
        self._question_count = 0
        self._open: dict[str, Any] = {}
        self._answers: dict[str, Any] = {}
        self._updated_at = workflow.info().start_time

    async def elicit(self, message: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Show the user a form, and wait for the result: `{"action": "accept", "content": {...}}` or another action.

        The server checks an accepted form for required properties and their types only. Check anything else before use.

        Args:
            schema: JSON schema of the form: an object with properties of primitive types.
        """
        params = {"mode": "form", "message": message, "requestedSchema": dict(schema)}
        return await self.ask({"method": "elicitation/create", "params": params})

    async def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send the client an MCP request, and wait for its response without a time limit."""
        self._question_count += 1
        key = f"input-{self._question_count}"
        if key not in self._answers:
            self._open[key] = dict(request)
        self._updated_at = workflow.now()
        try:
            await workflow.wait_condition(lambda: key in self._answers)
        except asyncio.CancelledError:
            # A cancelled wait withdraws its request.
            if self._open.pop(key, None) is not None:
                self._updated_at = workflow.now()
            raise
        answer: Mapping[str, Any] = self._answers.pop(key)
        return answer

    def answer(self, responses: Mapping[str, Any]) -> None:
        """Accept responses. Responses to requests that were answered or cancelled are ignored.

        A response may precede its request: a workflow that has only asked a question has no command in its history, so
        on replay its first answer is delivered before `run` starts. It is kept until the request is made.
        """
        for key, response in responses.items():
            if key in self._open or _question_number(key) > self._question_count:
                self._open.pop(key, None)
                self._answers.setdefault(key, response)
                self._updated_at = workflow.now()

    def state(self, message: str | None = None) -> TaskState:
        """The state to return from the TASK_STATE query."""
        return TaskState(message=message, updated_at=self._updated_at, input_requests=dict(self._open))


def _question_number(key: str) -> int:
    """The number in a key, from 1; 0 if `ask` never makes such a key."""
    number = key.removeprefix("input-")
    is_ours = number.isascii() and number.isdecimal() and len(number) < _MAX_DIGITS
    return int(number) if is_ours and key == f"input-{int(number)}" else 0


class TaskWorkflow:
    """Base class of a workflow that acts as a task, and may ask its client: `await self.inbox.elicit(...)`.

    Example:
        @workflow.defn
        class Greet(TaskWorkflow):
            @workflow.run
            async def run(self) -> str:
                answer = await self.inbox.elicit("Who is to be greeted?", FORM)
                return f"Hello, {answer['content']['name']}!"
    """

    def __init__(self) -> None:
        self.inbox = TaskInbox()

    @workflow.query(name=TASK_STATE)
    def task_state(self) -> TaskState:
        """Report the state. Override it to report more."""
        return self.inbox.state()

    @workflow.update(name=TASK_INPUT)
    def task_input(self, responses: dict[str, Any]) -> None:
        """Accept responses."""
        self.inbox.answer(responses)
