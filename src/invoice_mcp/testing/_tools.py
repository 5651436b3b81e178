"""The six tools as a scenario speaks of them: typed answers, refusals as exceptions, and a journal of both."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mcp import Client
from mcp_types import CallToolResult, TextContent

from invoice_mcp.testing._engine import GIVES_UP_AFTER

Clock = Callable[[str | None], Awaitable[datetime]]


class ToolRefused(Exception):  # noqa: N818 (an answer, not an error of the harness)
    """A tool answered with an error. `str()` is the whole text that the MCP client was given."""

    @property
    def code(self) -> str:
        """The stable code it starts with, or "" if it has none."""
        found = re.match(r"([A-Z_]+): ", str(self))
        return found[1] if found else ""


@dataclass(frozen=True)
class Answer:
    """One call of a tool: what was asked, what was answered, and when, by the invoice's own clock.

    Attributes:
        content: The structured content; None for a refusal.
        refusal: The text of a refusal; "" for an answer.
    """

    tool: str
    arguments: Mapping[str, Any]
    content: Mapping[str, Any] | None
    refusal: str
    before: datetime
    after: datetime

    @property
    def code(self) -> str:
        """OK, or the code of the refusal."""
        return ToolRefused(self.refusal).code if self.content is None else "OK"


class Tools:
    """Calls tools through an MCP client and keeps every answer.

    Attributes:
        answers: Of every call, in the order in which they were answered.
        progress: Of every progress notification, how far and in what words.
    """

    def __init__(self, client: Client, clock: Clock) -> None:
        self.client = client
        self.answers: list[Answer] = []
        self.progress: list[tuple[float, str | None]] = []
        self._clock = clock

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a tool; the answer is its structured content.

        Raises:
            ToolRefused: It answered with an error.
        """
        workflow_id = arguments.get("workflow_id")
        of = workflow_id if isinstance(workflow_id, str) else None
        before = await self._clock(of)
        answer = await self.client.call_tool(
            tool, dict(arguments), progress_callback=self._on_progress, read_timeout_seconds=2 * GIVES_UP_AFTER
        )
        after = await self._clock(of)
        assert isinstance(answer, CallToolResult)  # noqa: S101 (no tool of ours asks back)
        text = "".join(block.text for block in answer.content if isinstance(block, TextContent))
        if answer.is_error:
            self.answers.append(Answer(tool, arguments, None, text, before, after))
            raise ToolRefused(text)
        content = answer.structured_content
        assert isinstance(content, dict)  # noqa: S101 (each has an output schema)
        self.answers.append(Answer(tool, arguments, content, "", before, after))
        return content

    async def _on_progress(self, progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG002
        self.progress.append((progress, message))
