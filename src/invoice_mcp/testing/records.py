"""What a world keeps of what happened: payments, attempts, and the answers of tools."""

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
    """When a port is asked, by the clock of whoever asks, which run asks ("" outside of a workflow), and how often.

    Attributes:
        attempt: Of the activity that asks, from 1.
    """

    at: datetime
    run_id: str = ""
    attempt: int = 1


def activity_context() -> CallContext:
    """The time of the server that started the activity which asks. Call it inside of an activity only."""
    info = activity.info()
    return CallContext(info.started_time.astimezone(UTC), info.workflow_run_id or "", info.attempt)


def wall_clock_context() -> CallContext:
    """This machine's time."""
    return CallContext(datetime.now(UTC))


@dataclass(frozen=True)
class RecordedPayment:
    """One payment that was made. `run_id` is the run of the workflow that had it made (of PayLineItem, usually)."""

    order: PaymentOrder
    payment_id: str
    at: datetime
    run_id: str = ""


class Outcome(StrEnum):
    """How the gateway answered one request: paid, refused for good, or in a way that leaves both possible."""

    PAID = "paid"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Attempt:
    """One request to the gateway, and how it was answered. `run_id` as for `RecordedPayment`.

    Attributes:
        attempt: Of the activity that asked, from 1.
        payment_id: The payment that the answer named, if it named one.
    """

    order: PaymentOrder
    outcome: Outcome
    run_id: str = ""
    attempt: int = 1
    payment_id: str = ""


class ToolRefused(Exception):  # noqa: N818 (an answer, not an error of the harness)
    """A tool answered with an error. `str()` is the whole text that the MCP client was given."""

    @property
    def code(self) -> str:
        """The stable code it starts with, or "" if it has none."""
        found = re.match(r"([A-Z_]+): ", str(self))
        return found[1] if found else ""


@dataclass(frozen=True)
class Answer:
    """One call of a tool: what was asked and what was answered.

    Attributes:
        content: The structured content; None for a refusal.
        refusal: The text of a refusal; "" for an answer.
    """

    tool: str
    arguments: Mapping[str, Any]
    content: Mapping[str, Any] | None
    refusal: str

    @property
    def code(self) -> str:
        """OK, or the code of the refusal."""
        return ToolRefused(self.refusal).code if self.content is None else "OK"


@dataclass(frozen=True)
class Form:
    """The text of a form that asked for the decision on a run."""

    workflow_id: str
    run_id: str
    message: str
