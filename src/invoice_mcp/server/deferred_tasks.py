"""The tasks extension of a server that starts before Temporal is connected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, CallToolRequestParams, CallToolResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from invoice_mcp.domain.errors import RefusedError
from mcp_temporal_tasks import EXTENSION_ID, TaskParams, UpdateTaskParams

if TYPE_CHECKING:
    from mcp_temporal_tasks import TasksExtension

_METHODS = {"tasks/get": TaskParams, "tasks/update": UpdateTaskParams, "tasks/cancel": TaskParams}


class DeferredTasksExtension(Extension):
    """Declares tasks at once and delegates each request to a `TasksExtension` created when Temporal is connected.

    Args:
        create: Creates that extension; called until it succeeds. Raises RefusedError while Temporal is not connected.
        tools: Names of the tools whose calls may become tasks. They wait for Temporal themselves and are called first.
    """

    identifier = EXTENSION_ID

    def __init__(self, create: Callable[[], Awaitable[TasksExtension]], *, tools: AbstractSet[str]) -> None:
        self._create = create
        self._tools = tools
        self._delegate: TasksExtension | None = None

    def methods(self) -> Sequence[MethodBinding]:
        """See `TasksExtension.methods`."""
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        return [MethodBinding(name, params, self._handler(name), versions) for name, params in _METHODS.items()]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """See `TasksExtension.intercept_tool_call`."""
        result = await call_next(ctx)
        if params.name not in self._tools or not isinstance(result, CallToolResult) or result.is_error:
            return result

        async def return_result(_ctx: ServerRequestContext[Any, Any]) -> HandlerResult:
            return result

        return await (await self._require_delegate()).intercept_tool_call(params, ctx, return_result)

    async def subscriptions(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Middleware; see the method of `TasksExtension`."""
        if ctx.method != "subscriptions/listen":
            return await call_next(ctx)
        wanted = (ctx.params or {}).get("notifications")
        if not isinstance(wanted, Mapping) or not wanted.get("taskIds"):
            return await call_next(ctx)
        return await (await self._require_delegate()).subscriptions(ctx, call_next)

    def _handler(self, name: str) -> Callable[[ServerRequestContext[Any, Any], Any], Awaitable[HandlerResult]]:
        async def handle(ctx: ServerRequestContext[Any, Any], params: Any) -> HandlerResult:
            [handler] = [each.handler for each in (await self._require_delegate()).methods() if each.method == name]
            return await handler(ctx, params)

        return handle

    async def _require_delegate(self) -> TasksExtension:
        if self._delegate is None:
            try:
                self._delegate = await self._create()
            except RefusedError as refusal:
                raise MCPError(INTERNAL_ERROR, str(refusal)) from None
        return self._delegate
