"""Results of tools: structured content, and the same as text for hosts that read only text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic_core
from mcp_types import CallToolResult, ContentBlock, TextContent
from pydantic import BaseModel


def build_result(answer: BaseModel) -> CallToolResult:
    """Build the result of a tool from its answer."""
    structured = answer.model_dump(mode="json")
    return CallToolResult(content=build_text_content(structured), structured_content=structured)


def build_text_content(structured: Mapping[str, Any]) -> list[ContentBlock]:
    """Return the content as text: the summary first, since some hosts truncate or show only that, then compact JSON."""
    summary = structured.get("summary")
    texts = [summary] if isinstance(summary, str) and summary else []
    texts.append(pydantic_core.to_json(structured).decode())
    return [TextContent(type="text", text=text) for text in texts]
