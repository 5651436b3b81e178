"""What the server declares: tools alone. `MCPServer` declares prompts and resources too, though there are none."""

from __future__ import annotations

from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

_DECLARING = frozenset({"initialize", "server/discover"})
_THERE_ARE_NO = frozenset({"prompts", "resources"})


async def without_prompts_and_resources(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware: hosts are not told to ask for prompts and resources. Who asks all the same gets an empty list."""
    result = await call_next(ctx)
    if ctx.method not in _DECLARING or not isinstance(result, dict):
        return result
    declared = {name: each for name, each in result.get("capabilities", {}).items() if name not in _THERE_ARE_NO}
    return {**result, "capabilities": declared}
