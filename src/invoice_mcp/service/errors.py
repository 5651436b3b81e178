"""Deadlines of calls to Temporal, and the translation of their errors to `RefusedError`.

`mcp_temporal_tasks.errors` translates RPC errors, too: to JSON-RPC errors, without this product's codes. The packages
are independent of each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

import anyio
from temporalio.client import WorkflowQueryFailedError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.domain.display_text import printable, quoted
from invoice_mcp.domain.errors import ErrorCode, RefusedError
from invoice_mcp.service.queries import is_namespace_missing, never_started
from invoice_mcp.temporal.probe import NoAnswerReason, Probe, is_connection_error

# Seconds. `diagnose_timeout` may take two more, so an answer comes within ten.
ANSWER_WITHIN = 7.0

START_A_WORKER = "Start one with `invoice-mcp worker` (or `invoice-mcp serve` without --no-worker)"
_NOT_IN_TIME = "No answer came in time, and the request may still be done"
_LONGEST_REFUSAL = 5000
_CHECK_TEMPORAL = "Check that it runs and that the address, namespace and credentials are right; then try again"
_NO_ANSWER = frozenset({RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.RESOURCE_EXHAUSTED})
_NO_ACCESS = frozenset({RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED})


# Seconds left, where several requests share the deadline of one answer.
_left: ContextVar[float | None] = ContextVar("left", default=None)


@contextmanager
def shared_deadline(seconds: float = ANSWER_WITHIN) -> Iterator[None]:
    """All `temporal_calls` inside share the deadline of one answer. Time between them does not count."""
    token = _left.set(seconds)
    try:
        yield
    finally:
        _left.reset(token)


@contextmanager
def _bounded() -> Iterator[None]:
    left, began = _left.get(), anyio.current_time()
    try:
        with anyio.fail_after(ANSWER_WITHIN if left is None else left):
            yield
    finally:
        if left is not None:
            _left.set(max(0.0, left - (anyio.current_time() - began)))


@asynccontextmanager
async def temporal_calls(probe: Probe) -> AsyncIterator[None]:
    """Limit the time of the calls inside, and translate their errors to `RefusedError`."""
    try:
        with _bounded():
            yield
    except RefusedError:
        raise
    except TimeoutError:
        raise await diagnose_timeout(probe, _NOT_IN_TIME) from None
    except WorkflowUpdateFailedError as error:
        raise _workflow_refusal(error) from None
    except WorkflowQueryFailedError as error:
        raise RefusedError(
            ErrorCode.INTERNAL, f"the workflow can't report its state ({quoted(error.message)})"
        ) from None
    except RPCError as error:
        raise await _translate_rpc_error(error, probe) from None
    except RuntimeError as error:
        # A lazy client that can't connect.
        if "connect" not in str(error):
            raise
        raise _unavailable_error("it can't be connected to") from None


async def diagnose_timeout(probe: Probe, what: str) -> RefusedError:
    """The refusal after a timeout, with its cause: Temporal is unreachable, there is no worker, or it is busy.

    Args:
        what: What is known about the request, as the beginning of a sentence.
    """
    match await probe.no_answer_reason():
        case NoAnswerReason.UNREACHABLE:
            return _unavailable_error("it does not answer")
        case NoAnswerReason.NO_WORKER:
            return no_worker_error(f"{what}: no worker polls for invoices")
        case NoAnswerReason.WORKER_POLLS:
            return no_answer_error(
                f"{what}: a worker has polled lately, so it or Temporal is busy, or it has just ended"
            )
        case NoAnswerReason.UNKNOWN:
            return no_answer_error(f"{what}: Temporal answers, but does not say whether a worker runs")


def no_answer_error(what: str) -> RefusedError:
    """The refusal when no answer came, but there may be a worker."""
    return RefusedError(ErrorCode.NO_ANSWER, f"{what}. Wait a little, then ask `status`. Repeating a call is safe.")


def no_worker_error(what: str) -> RefusedError:
    """The refusal when Temporal is reachable but has no worker."""
    return RefusedError(ErrorCode.NO_WORKER, f"{what}. {START_A_WORKER}; then ask `status`. Repeating a call is safe.")


def _unavailable_error(why: str) -> RefusedError:
    return RefusedError(
        ErrorCode.TEMPORAL_UNAVAILABLE, f"Temporal can't be used: {why}. {_CHECK_TEMPORAL}. Nothing is lost."
    )


def _workflow_refusal(error: WorkflowUpdateFailedError) -> RefusedError:
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type is not None and cause.type in set(ErrorCode):
        # A worker of release 0.1.0 does not quote untrusted text. `printable` at least keeps the message on one line.
        return RefusedError(
            ErrorCode(cause.type), f"{printable(cause.message, _LONGEST_REFUSAL)}. Ask `status` for the whole picture."
        )
    return RefusedError(ErrorCode.INTERNAL, f"the workflow refused the request ({quoted(str(cause))})")


async def _translate_rpc_error(error: RPCError, probe: Probe) -> RefusedError:
    if is_namespace_missing(error):
        return _unavailable_error(f"it says {quoted(error.message)}")
    if error.status is RPCStatusCode.NOT_FOUND:
        return RefusedError(
            ErrorCode.NOT_FOUND, "there is no such invoice any more. `list` shows the invoices there are."
        )
    if error.status is RPCStatusCode.FAILED_PRECONDITION and "poller" in error.message:
        return no_worker_error("No worker polls for invoices")
    if never_started(error):
        what = "this run of the invoice was ended from outside before it did anything, so there is no report"
        return RefusedError(ErrorCode.ALREADY_CLOSED, f"{what}. It paid nothing; submit the invoice again")
    if error.status is RPCStatusCode.FAILED_PRECONDITION and "Workflow Task in failed state" in error.message:
        return no_answer_error("The invoice's workflow fails now, and is retried; the log of its worker says why")
    if error.status in _NO_ANSWER:
        return await diagnose_timeout(probe, _NOT_IN_TIME)
    if is_connection_error(error):
        # Even if it is reachable again by now.
        return _unavailable_error(f"{error.status.name} ({quoted(error.message)})")
    if error.status in _NO_ACCESS:
        return _unavailable_error(f"it refuses access ({quoted(error.message)})")
    return RefusedError(ErrorCode.INTERNAL, f"Temporal answered {error.status.name} ({quoted(error.message)})")
