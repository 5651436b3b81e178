"""The six tools as a scenario speaks of them: typed answers, refusals as exceptions, and a journal of both."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from copy import deepcopy
from typing import Any

from mcp import Client
from mcp_types import CallToolResult, TextContent

from invoice_mcp.testing.engines.base import HARNESS_TIMEOUT
from invoice_mcp.testing.records import Answer, Form, ToolRefused


class Tools:
    """Calls tools through an MCP client and keeps every answer.

    Attributes:
        answers: Of every call, in the order in which they were answered.
        progress: Of every progress notification, how far and in what words.
        forms: Every form that was shown, once.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.answers: list[Answer] = []
        self.progress: list[tuple[float, str | None]] = []
        self.forms: dict[Form, None] = {}

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a tool; the answer is its structured content.

        Raises:
            ToolRefused: It answered with an error.
        """
        # As it is now: whoever calls may change it later, and submit it again.
        arguments = deepcopy(dict(arguments))
        answer = await self.client.call_tool(
            tool, dict(arguments), progress_callback=self._on_progress, read_timeout_seconds=2 * HARNESS_TIMEOUT
        )
        assert isinstance(answer, CallToolResult)
        text = "".join(block.text for block in answer.content if isinstance(block, TextContent))
        if answer.is_error:
            self.answers.append(Answer(tool, arguments, None, text))
            raise ToolRefused(text)
        content = answer.structured_content
        assert isinstance(content, dict)
        self.answers.append(Answer(tool, arguments, content, ""))
        return content

    def follow_reset(self, workflow_id: str, base_run_id: str, run_id: str) -> None:
        """An invoice goes on as another run, which no tool began."""

    @staticmethod
    async def refusal(call: Awaitable[object]) -> ToolRefused:
        """How a call is refused that must be."""
        try:
            answer = await call
        except ToolRefused as refused:
            return refused
        raise AssertionError(f"it should have been refused, but was answered: {answer}")

    async def _on_progress(self, progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG002
        self.progress.append((progress, message))
