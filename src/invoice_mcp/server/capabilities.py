"""The declared capabilities: tools only. `MCPServer` always declares prompts and resources, of which there are none."""

from __future__ import annotations

from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

_DISCOVERY_METHODS = frozenset({"initialize", "server/discover"})
_ABSENT = frozenset({"prompts", "resources"})


async def hide_prompts_and_resources(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware: remove prompts and resources from the capabilities. A host that lists them gets an empty list."""
    result = await call_next(ctx)
    if ctx.method not in _DISCOVERY_METHODS or not isinstance(result, dict):
        return result
    declared = {name: each for name, each in result.get("capabilities", {}).items() if name not in _ABSENT}
    return {**result, "capabilities": declared}
