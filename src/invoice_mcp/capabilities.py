"""What the server declares: tools alone. `MCPServer` declares prompts and resources too, though there are none."""

from __future__ import annotations

from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND

_NONE_OF = ("prompts", "resources")


async def without_prompts_and_resources(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware: prompts and resources are not declared, and asking for them is asking for an unknown method."""
    kind, slash, _ = (ctx.method or "").partition("/")
    if slash and kind in _NONE_OF:
        raise MCPError(METHOD_NOT_FOUND, "Method not found", ctx.method)
    result = await call_next(ctx)
    if ctx.method in {"initialize", "server/discover"} and isinstance(result, dict):
        capabilities = result.get("capabilities", {})
        result = {**result, "capabilities": {key: each for key, each in capabilities.items() if key not in _NONE_OF}}
    return result
