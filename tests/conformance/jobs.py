"""Workflows behind the fixture tools that the official conformance suite needs for tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from mcp_types import INTERNAL_ERROR

    from mcp_temporal_tasks.workflow import TaskWorkflow, protocol_error

_NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
_YES = {"type": "object", "properties": {"confirm": {"type": "boolean"}}, "required": ["confirm"]}


@workflow.defn
class SlowCompute(TaskWorkflow):
    @workflow.run
    async def run(self, seconds: float, label: str) -> str:
        await workflow.sleep(timedelta(seconds=seconds))
        return f"{label or 'It'} took {seconds:g} s"


@workflow.defn
class FailingJob(TaskWorkflow):
    @workflow.run
    async def run(self) -> str:
        await workflow.sleep(timedelta(seconds=1))
        raise ApplicationError("this job always fails", non_retryable=True)


@workflow.defn
class ProtocolErrorJob(TaskWorkflow):
    @workflow.run
    async def run(self) -> str:
        raise protocol_error(INTERNAL_ERROR, "this job always ends with a protocol error")


@workflow.defn
class ConfirmDelete(TaskWorkflow):
    @workflow.run
    async def run(self, filename: str) -> str:
        answer = await self.inbox.elicit(f"Delete {filename}?", _YES)
        return f"{filename} was {'deleted' if _accepted(answer).get('confirm') is True else 'kept'}"


@workflow.defn
class MultiInput(TaskWorkflow):
    @workflow.run
    async def run(self) -> str:
        questions = ("Who asks?", "Who answers?")
        answers = await asyncio.gather(*(self.inbox.elicit(question, _NAME) for question in questions))
        return " and ".join(str(_accepted(answer).get("name")) for answer in answers)


@workflow.defn
class AskTwice(TaskWorkflow):
    """Not used by the suite: asks two questions, one after the other."""

    @workflow.run
    async def run(self) -> str:
        first = await self.inbox.elicit("Who asks?", _NAME)
        second = await self.inbox.elicit("Who asks?", _NAME)
        return " and ".join(str(_accepted(answer).get("name")) for answer in (first, second))


@workflow.defn
class GreetLater(TaskWorkflow):
    @workflow.run
    async def run(self, name: str) -> str:
        return f"Hello, {name}!"


def _accepted(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    content = answer.get("content")
    return content if answer.get("action") == "accept" and isinstance(content, Mapping) else {}


JOBS: tuple[type, ...] = (SlowCompute, FailingJob, ProtocolErrorJob, ConfirmDelete, MultiInput, AskTwice, GreetLater)
