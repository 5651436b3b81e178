"""Answers of tools, as MCP carries them: structured, and as text for hosts that read nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic_core
from mcp_types import CallToolResult, ContentBlock, TextContent
from pydantic import BaseModel


def build_result(answer: BaseModel) -> CallToolResult:
    """The result of a tool that answers this."""
    structured = answer.model_dump(mode="json")
    return CallToolResult(content=build_text_content(structured), structured_content=structured)


def build_text_content(structured: Mapping[str, Any]) -> list[ContentBlock]:
    """The same as text: first the summary, which some hosts cut off or show alone, then the whole as compact JSON."""
    summary = structured.get("summary")
    texts = [summary] if isinstance(summary, str) and summary else []
    texts.append(pydantic_core.to_json(structured).decode())
    return [TextContent(type="text", text=text) for text in texts]
