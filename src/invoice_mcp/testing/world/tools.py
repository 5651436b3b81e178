"""Calls the tools through an MCP client: errors as exceptions, and a journal of all answers."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from copy import deepcopy
from typing import Any

from mcp import Client
from mcp_types import CallToolResult, TextContent

from invoice_mcp.testing.engines.base import HARNESS_TIMEOUT
from invoice_mcp.testing.records import Answer, Form, ToolRefused


def text_of(answer: CallToolResult) -> str:
    """The text content of an answer."""
    return "".join(block.text for block in answer.content if isinstance(block, TextContent))


class Tools:
    """Calls tools through an MCP client and records every answer.

    Attributes:
        answers: The answers of all calls, in the order of the answers.
        progress: The progress and message of every progress notification.
        forms: The forms that were shown, without duplicates.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.answers: list[Answer] = []
        self.progress: list[tuple[float, str | None]] = []
        self.forms: dict[Form, None] = {}

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a tool. Returns the structured content.

        Raises:
            ToolRefused: The tool answered with an error.
        """
        # Record a copy: the caller may change the arguments later.
        arguments = deepcopy(dict(arguments))
        answer = await self.client.call_tool(
            tool, dict(arguments), progress_callback=self._on_progress, read_timeout_seconds=2 * HARNESS_TIMEOUT
        )
        assert isinstance(answer, CallToolResult)
        text = text_of(answer)
        if answer.is_error:
            self.answers.append(Answer(tool, arguments, None, text))
            raise ToolRefused(text)
        content = answer.structured_content
        assert isinstance(content, dict)
        self.answers.append(Answer(tool, arguments, content, ""))
        return content

    def follow_reset(self, workflow_id: str, base_run_id: str, run_id: str) -> None:
        """Note that an invoice continues as another run after a reset."""

    @staticmethod
    async def refusal(call: Awaitable[object]) -> ToolRefused:
        """The error of a call that must be refused."""
        try:
            answer = await call
        except ToolRefused as refused:
            return refused
        raise AssertionError(f"it should have been refused, but was answered: {answer}")

    async def _on_progress(self, progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG002
        self.progress.append((progress, message))
