"""Calls to Temporal that end in seconds: with an answer, or with a JSON-RPC error that says what to do next."""

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

_RETRY_HINT = "The task is not lost: ask again later"


def unknown_task() -> MCPError:
    """The error for an id that is no task's, or no more."""
    return MCPError(INVALID_PARAMS, "There is no such task, or it has expired. Task ids come from tool calls only")


@asynccontextmanager
async def mcp_errors(seconds: float) -> AsyncIterator[None]:
    """Bound the calls made inside, and turn what goes wrong with them into `MCPError`."""
    try:
        with anyio.fail_after(seconds):
            yield
    except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
        raise MCPError(INTERNAL_ERROR, f"No worker answered in time, or Temporal is away. {_RETRY_HINT}") from None
    except WorkflowQueryFailedError as error:
        logger.warning("A workflow can't tell the state of its task: %s", error.message)
        raise MCPError(INTERNAL_ERROR, f"The workflow can't tell the state of its task. {_RETRY_HINT}") from None
    except RPCError as error:
        logger.warning("Temporal answered %s: %s", error.status.name, error.message)
        raise MCPError(INTERNAL_ERROR, f"Temporal answered {error.status.name}. {_RETRY_HINT}") from None
    except RuntimeError as error:
        # What a client raises that has never been connected and cannot be.
        if "connect" not in str(error):
            raise
        raise MCPError(INTERNAL_ERROR, f"Temporal can't be reached. {_RETRY_HINT}") from None
