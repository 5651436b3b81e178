"""Calls to Temporal that end in seconds, with an answer or with a refusal that says what to do next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

import anyio
from temporalio.client import WorkflowQueryFailedError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.domain.display_text import printable, quoted
from invoice_mcp.domain.errors import Code, Refused
from invoice_mcp.service.queries import is_namespace_missing, never_began
from invoice_mcp.temporal.probe import Probe, Silence, lost_connection

# With the two seconds that finding out the reason may take, an answer is there within ten.
ANSWER_WITHIN = 7.0

START_A_WORKER = "Start one with `invoice-mcp worker` (or `invoice-mcp serve` without --no-worker)"
_NOT_IN_TIME = "No answer came in time, and the request may still be done"
_LONGEST_REFUSAL = 5000
_CHECK_TEMPORAL = "Check that it runs and that the address, namespace and credentials are right; then try again"
_NO_ANSWER = frozenset({RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.RESOURCE_EXHAUSTED})
_NO_ACCESS = frozenset({RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED})


# Seconds that are left for the answer under way, where several requests make one.
_left: ContextVar[float | None] = ContextVar("left", default=None)


@contextmanager
def one_answer(seconds: float = ANSWER_WITHIN) -> Iterator[None]:
    """Inside, all that is done in `answering` has the time of one answer; what is between does not count."""
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
async def answering(probe: Probe) -> AsyncIterator[None]:
    """Bound the calls made inside, and turn whatever goes wrong with them into `Refused`."""
    try:
        with _bounded():
            yield
    except Refused:
        raise
    except TimeoutError:
        raise await unanswered(probe, _NOT_IN_TIME) from None
    except WorkflowUpdateFailedError as error:
        raise _refused_by_workflow(error) from None
    except WorkflowQueryFailedError as error:
        raise Refused(Code.INTERNAL, f"the workflow can't tell its state ({quoted(error.message)})") from None
    except RPCError as error:
        raise await _refusal(error, probe) from None
    except RuntimeError as error:
        # What a client raises that has never been connected and cannot be.
        if "connect" not in str(error):
            raise
        raise _unavailable("it can't be connected to") from None


async def unanswered(probe: Probe, what: str) -> Refused:
    """The refusal when nobody answered in time: is it the server, or no worker behind it, or one that is busy?

    Args:
        what: What is known of the request, as the beginning of a sentence.
    """
    match await probe.silence():
        case Silence.UNREACHABLE:
            return _unavailable("it does not answer")
        case Silence.NO_WORKER:
            return no_worker(f"{what}: no worker polls for invoices")
        case Silence.WORKER_POLLS:
            return no_answer(f"{what}: a worker has polled lately, so it or Temporal is busy, or it has just ended")
        case Silence.UNKNOWN:
            return no_answer(f"{what}: Temporal answers, but does not tell whether a worker runs")


def no_answer(what: str) -> Refused:
    """The refusal when nobody answered, and it is not known that nobody works."""
    return Refused(Code.NO_ANSWER, f"{what}. Wait a little, then ask `status`. Repeating a call is safe.")


def no_worker(what: str) -> Refused:
    """The refusal when Temporal is there but nobody works for it."""
    return Refused(Code.NO_WORKER, f"{what}. {START_A_WORKER}; then ask `status`. Repeating a call is safe.")


def _unavailable(why: str) -> Refused:
    return Refused(Code.TEMPORAL_UNAVAILABLE, f"Temporal can't be used: {why}. {_CHECK_TEMPORAL}. Nothing is lost.")


def _refused_by_workflow(error: WorkflowUpdateFailedError) -> Refused:
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type is not None and cause.type in set(Code):
        # A worker of release 0.1.0 does not quote. Its refusal is at least one line.
        return Refused(
            Code(cause.type), f"{printable(cause.message, _LONGEST_REFUSAL)}. Ask `status` for the whole picture."
        )
    return Refused(Code.INTERNAL, f"the workflow refused the request ({quoted(str(cause))})")


async def _refusal(error: RPCError, probe: Probe) -> Refused:
    if is_namespace_missing(error):
        return _unavailable(f"it says {quoted(error.message)}")
    if error.status is RPCStatusCode.NOT_FOUND:
        return Refused(Code.NOT_FOUND, "there is no such invoice any more. `list` shows the invoices there are.")
    if error.status is RPCStatusCode.FAILED_PRECONDITION and "poller" in error.message:
        return no_worker("No worker polls for invoices")
    if never_began(error):
        what = (
            "this run of the invoice was ended from outside before it did anything, so there is nothing to tell of it"
        )
        return Refused(Code.ALREADY_CLOSED, f"{what}. It paid nothing; submit the invoice again")
    if error.status is RPCStatusCode.FAILED_PRECONDITION and "Workflow Task in failed state" in error.message:
        return no_answer("The invoice's workflow can't go on now, and is tried again; the log of its worker says why")
    if error.status in _NO_ANSWER:
        return await unanswered(probe, _NOT_IN_TIME)
    if lost_connection(error):
        # Also if it is there again by now.
        return _unavailable(f"{error.status.name} ({quoted(error.message)})")
    if error.status in _NO_ACCESS:
        return _unavailable(f"it refuses access ({quoted(error.message)})")
    return Refused(Code.INTERNAL, f"Temporal answered {error.status.name} ({quoted(error.message)})")
