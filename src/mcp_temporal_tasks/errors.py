"""Calls to Temporal with a deadline. They end with an answer, or with a JSON-RPC error that says what to do next."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from temporalio.client import WorkflowQueryFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError

logger = logging.getLogger(__name__)

_RETRY_HINT = "The task is not lost: try again later"


def unknown_task() -> MCPError:
    """The error for an id without a task: invalid, expired, or of another workflow type."""
    return MCPError(INVALID_PARAMS, "Unknown or expired task. Use a task id that a tool call returned")


@asynccontextmanager
async def mcp_errors(seconds: float) -> AsyncIterator[None]:
    """Limit the duration of the calls inside to `seconds`, and translate their errors to `MCPError`."""
    try:
        with anyio.fail_after(seconds):
            yield
    except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
        raise MCPError(
            INTERNAL_ERROR, f"No worker answered in time, or Temporal is unavailable. {_RETRY_HINT}"
        ) from None
    except WorkflowQueryFailedError as error:
        logger.warning("The state query of a workflow failed: %s", error.message)
        raise MCPError(INTERNAL_ERROR, f"The workflow failed to report the state of its task. {_RETRY_HINT}") from None
    except RPCError as error:
        logger.warning("Temporal answered %s: %s", error.status.name, error.message)
        raise MCPError(INTERNAL_ERROR, f"Temporal answered {error.status.name}. {_RETRY_HINT}") from None
    except RuntimeError as error:
        # A lazily connected client raises this if it can't connect.
        if "connect" not in str(error):
            raise
        raise MCPError(INTERNAL_ERROR, f"Temporal can't be reached. {_RETRY_HINT}") from None
