"""A workflow's side of a task: what it tells of itself, and how it asks the client of its task. Deterministic.

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
"""Name of the query that tells the `TaskState`."""

TASK_INPUT = "TaskInput"
"""Name of the update that takes answers: a mapping from the keys of input requests to the client's responses."""

PROTOCOL_ERROR = "io.modelcontextprotocol/error"
"""Type of the ApplicationError with which a workflow makes its task `failed`; see `protocol_error`."""

_MAX_DIGITS = 10


@dataclass
class TaskState:
    """Answer to the query TASK_STATE of a workflow that goes on. That it has ended, Temporal tells.

    Attributes:
        message: What goes on, for people.
        updated_at: When that last changed; None: when the workflow began.
        input_requests: What is asked of the client and not answered yet, by key. A key is never used again in this run;
            the client sees it with the run in it.
            The values are MCP requests, such as `{"method": "elicitation/create", "params": {...}}`.
        poll_interval_ms: How often it is worth asking from now on; None: as the binding says.
    """

    message: str | None = None
    updated_at: datetime | None = None
    input_requests: dict[str, Any] = field(default_factory=dict)
    poll_interval_ms: int | None = None


def protocol_error(code: int, message: str, data: Any = None) -> ApplicationError:
    """What a workflow raises to make its task `failed` with this JSON-RPC error.

    Any other failure of a workflow is an error of the tool: its task is `completed`, with `isError`.
    """
    return ApplicationError(message, {"code": code, "data": data}, type=PROTOCOL_ERROR, non_retryable=True)


class TaskInbox:
    """What a workflow asks the client of its task, and the answers. Serve TASK_STATE and TASK_INPUT with it."""

    def __init__(self) -> None:
        self._question_count = 0
        self._open: dict[str, Any] = {}
        self._answers: dict[str, Any] = {}
        self._updated_at = workflow.info().start_time

    async def elicit(self, message: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask the client's person, and wait for the answer: `{"action": "accept", "content": {...}}` or another action.

        An accepted form has been checked for what the schema requires, and for the types it names; all else in it is
        the client's word: check it before relying on it.

        Args:
            schema: JSON schema of the form: an object with properties of primitive types.
        """
        params = {"mode": "form", "message": message, "requestedSchema": dict(schema)}
        return await self.ask({"method": "elicitation/create", "params": params})

    async def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send the client an MCP request, and wait for its answer, for as long as it takes."""
        self._question_count += 1
        key = f"input-{self._question_count}"
        if key not in self._answers:
            self._open[key] = dict(request)
        self._updated_at = workflow.now()
        try:
            await workflow.wait_condition(lambda: key in self._answers)
        except asyncio.CancelledError:
            # Who gives up waiting does not ask any more.
            if self._open.pop(key, None) is not None:
                self._updated_at = workflow.now()
            raise
        answer: Mapping[str, Any] = self._answers.pop(key)
        return answer

    def answer(self, responses: Mapping[str, Any]) -> None:
        """Take answers; those to what is answered already, or was given up, are ignored.

        One may come before its question: a workflow that has done nothing but ask leaves no command in its history, so
        that on replay its first answer is taken before `run` has begun. It is kept until it is asked for.
        """
        for key, response in responses.items():
            if key in self._open or _question_number(key) > self._question_count:
                self._open.pop(key, None)
                self._answers.setdefault(key, response)
                self._updated_at = workflow.now()

    def state(self, message: str | None = None) -> TaskState:
        """What to answer the query with."""
        return TaskState(message=message, updated_at=self._updated_at, input_requests=dict(self._open))


def _question_number(key: str) -> int:
    """Which question has this key, from 1; 0: none ever has."""
    number = key.removeprefix("input-")
    is_ours = number.isascii() and number.isdecimal() and len(number) < _MAX_DIGITS
    return int(number) if is_ours and key == f"input-{int(number)}" else 0


class TaskWorkflow:
    """Base of a workflow that is a task, and may ask the client of it: `await self.inbox.elicit(...)`."""

    def __init__(self) -> None:
        self.inbox = TaskInbox()

    @workflow.query(name=TASK_STATE)
    def task_state(self) -> TaskState:
        """What a workflow that says more of itself overrides."""
        return self.inbox.state()

    @workflow.update(name=TASK_INPUT)
    def task_input(self, responses: dict[str, Any]) -> None:
        """Take answers."""
        self.inbox.answer(responses)
