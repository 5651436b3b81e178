"""Records of what happened in a world: payments, attempts, tool answers and forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from temporalio import activity

from invoice_mcp.domain.report import PaymentOrder


@dataclass(frozen=True)
class CallContext:
    """The context in which a port is called.

    Attributes:
        at: The time, by the caller's clock.
        run_id: The run of the workflow that calls; "" outside of a workflow.
        attempt: The attempt of the activity that calls, from 1.

    Example: an engine on a Temporal server returns `activity_context()` from `Engine.call_context`.
    """

    at: datetime
    run_id: str = ""
    attempt: int = 1


def activity_context() -> CallContext:
    """The context of the activity that calls this, with the server's time of its start. For use in activities only."""
    info = activity.info()
    return CallContext(info.started_time.astimezone(UTC), info.workflow_run_id or "", info.attempt)


def wall_clock_context() -> CallContext:
    """The context of a call outside of activities, with this machine's time."""
    return CallContext(datetime.now(UTC))


@dataclass(frozen=True)
class RecordedPayment:
    """A payment that was made. `run_id` is the run of the workflow that requested it, usually of PayLineItem."""

    order: PaymentOrder
    payment_id: str
    at: datetime
    run_id: str = ""


class Outcome(StrEnum):
    """How the gateway answered a request: paid, refused for good, or without a verdict."""

    PAID = "paid"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Attempt:
    """A request to the gateway, and how it was answered. `run_id` is as for `RecordedPayment`.

    Attributes:
        attempt: The attempt of the activity, from 1.
        payment_id: The payment id in the answer, if it has one.
    """

    order: PaymentOrder
    outcome: Outcome
    run_id: str = ""
    attempt: int = 1
    payment_id: str = ""


class ToolRefused(Exception):
    """A tool answered with an error. `str()` is the whole text that the MCP client received.

    >>> ToolRefused("NOT_FOUND: there is no invoice A").code
    'NOT_FOUND'
    """

    @property
    def code(self) -> str:
        """The stable code at the start of the text; "" if there is none."""
        found = re.match(r"([A-Z_]+): ", str(self))
        return found[1] if found else ""


@dataclass(frozen=True)
class Answer:
    """A tool call and its answer.

    Attributes:
        content: The structured content; None for an error.
        refusal: The text of an error; "" otherwise.
    """

    tool: str
    arguments: Mapping[str, Any]
    content: Mapping[str, Any] | None
    refusal: str

    @property
    def code(self) -> str:
        """OK, or the code of the error."""
        return ToolRefused(self.refusal).code if self.content is None else "OK"


@dataclass(frozen=True)
class Form:
    """The text of a form that asked for the decision on a run."""

    workflow_id: str
    run_id: str
    message: str
