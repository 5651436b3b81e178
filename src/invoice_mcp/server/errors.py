"""The MCP server class: every tool error starts with a stable code and contains no traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp_types import CallToolResult, InputRequiredResult, TextContent
from pydantic import ValidationError

from invoice_mcp.domain.display_text import quoted
from invoice_mcp.domain.errors import ErrorCode, RefusedError
from invoice_mcp.domain.invoice import MAX_INVOICE_BYTES, describe_faults
from invoice_mcp.server.tool_names import UNPREFIXED, ToolNames
from invoice_mcp.server.tool_results import build_text_content
from invoice_mcp.server.transport.stdio import stdio_streams

if TYPE_CHECKING:
    from mcp.shared._stream_protocols import ReadStream, WriteStream
    from mcp.shared.message import SessionMessage

logger = logging.getLogger(__name__)

_TOO_LARGE = f"the arguments are larger than {MAX_INVOICE_BYTES // 1024} KiB, or nested too deeply"

HOST_ARGUMENTS: Mapping[str, str] = MappingProxyType(
    {
        "wait_for_previous": "Gemini CLI adds it to every tool's schema, to order its calls, and sends it along",
    }
)
"""Arguments that hosts are known to add, and why. They are no mistakes of a model and are ignored."""


class ErrorCodeServer(MCPServer[Any]):
    """An `MCPServer` whose tool errors read `CODE: reason. What to do next.`

    The text content of a result is that of `build_text_content`.

    Args:
        names: The tool names to use in texts.
    """

    def __init__(self, *args: Any, names: ToolNames = UNPREFIXED, **options: Any) -> None:
        super().__init__(*args, **options)
        self._names = names

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """As the base class, but return a failure as an error result. Protocol errors are raised."""
        try:
            arguments = await self._check_arguments(name, arguments)
            result = await super().call_tool(name, arguments, context)
        except (ToolError, RefusedError) as error:
            text = self._names.in_text(str(_to_refusal(error)))
            logger.debug("Tool %s: %s", quoted(name, 64), text)
            return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
        if isinstance(result, CallToolResult) and result.structured_content is not None:
            return result.model_copy(update={"content": build_text_content(result.structured_content)})
        return result

    async def run_stdio_async(self) -> None:
        """As the base class, but answer the input that the SDK drops or leaves unanswered."""
        async with stdio_streams() as streams:
            await self.serve_streams(*streams)

    async def serve_streams(
        self, messages: ReadStream[SessionMessage | Exception], answers: WriteStream[SessionMessage]
    ) -> None:
        """Serve one client until its messages end."""
        options = self._lowlevel_server.create_initialization_options()
        await self._lowlevel_server.run(messages, answers, options)

    async def _check_arguments(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments without `HOST_ARGUMENTS`.

        Raises:
            RefusedError: The tool or an argument is unknown (the SDK ignores unknown arguments), or the arguments are
                too large.
        """
        tools = {tool.name: tool for tool in await self.list_tools()}
        if name not in tools:
            what = f"there is no tool {quoted(name, 64)}. The tools are {', '.join(tools)}."
            raise RefusedError(ErrorCode.INVALID_ARGUMENT, what)
        known = tools[name].input_schema.get("properties", {})
        arguments = {key: value for key, value in arguments.items() if key in known or key not in HOST_ARGUMENTS}
        unknown = sorted(quoted(argument, 64) for argument in arguments if argument not in known)
        if unknown:
            what = f"{name} takes no argument {', '.join(unknown[:10])}"
            raise RefusedError(ErrorCode.INVALID_ARGUMENT, f"{what}. It takes {', '.join(known)}.")
        try:
            size = len(json.dumps(arguments, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        except (RecursionError, ValueError):
            size = MAX_INVOICE_BYTES + 1
        if size > MAX_INVOICE_BYTES:
            code = ErrorCode.INVOICE_INVALID if "invoice" in known else ErrorCode.INVALID_ARGUMENT
            raise RefusedError(code, f"{_TOO_LARGE}. Send less and call again; nothing was changed.")
        return arguments


def _to_refusal(error: ToolError | RefusedError) -> RefusedError:
    cause = error.__cause__ if isinstance(error, ToolError) else error
    if isinstance(cause, RefusedError):
        return cause
    if isinstance(cause, ValidationError) and not isinstance(error, UnexpectedToolError):
        of_invoice = any(fault["loc"][:1] == ("invoice",) for fault in cause.errors(include_input=False))
        code = ErrorCode.INVOICE_INVALID if of_invoice else ErrorCode.INVALID_ARGUMENT
        return RefusedError(
            code, f"{describe_faults(cause, below=('invoice',))}. Correct this and call again; nothing was changed."
        )
    logger.error("A tool failed unexpectedly", exc_info=cause or error)
    return RefusedError(ErrorCode.INTERNAL, "an unexpected error. The server's log has the details.")
