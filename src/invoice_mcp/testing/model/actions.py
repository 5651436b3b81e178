"""The actions of a scenario as data, so that scenarios can be enumerated, generated, shrunk, printed and replayed."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from invoice_mcp.domain.report import DEFAULT_APPROVAL_TIMEOUT

ProtocolMode = Literal["auto", "legacy"]
PROTOCOL_MODES: tuple[ProtocolMode, ...] = ("auto", "legacy")
"""The modes of `mcp.Client`: the current MCP protocol, and the older one with a handshake."""

ClientInterface = Literal["tools", "tasks"]
CLIENT_INTERFACES: tuple[ClientInterface, ...] = ("tools", "tasks")
"""How a client submits, decides and cancels: with the plain tools, or with MCP tasks where there is one."""


class Verb(StrEnum):
    """The kinds of actions. `Action.code` shows each one as a call of a `World`.

    >>> Action(verb=Verb.ANSWER_LOST, line=2).code
    'world.payments.loses_the_answer(line=2)'
    """

    TRIGGER = "trigger"
    TRIGGER_CHANGED = "trigger-changed"
    APPROVE = "approve"
    REJECT = "reject"
    CANCEL = "cancel"
    SIGNAL_APPROVE = "signal-approve"
    SIGNAL_REJECT = "signal-reject"
    RAW_APPROVE = "raw-approve"
    RAW_REJECT = "raw-reject"
    RAW_CANCEL = "raw-cancel"
    RAW_QUERY = "raw-query"
    TERMINATE = "terminate"
    RESET = "reset"
    RESET_REAPPLIED = "reset-reapplied"
    ADVANCE = "advance"
    PAYMENT_REFUSED = "payment-refused"
    PAYMENT_DOWN = "payment-down"
    ANSWER_LOST = "answer-lost"
    REFUSED_AGAIN = "refused-again"
    STALE_ANSWER = "stale-answer"
    ERP_DOWN = "erp-down"
    ERP_REFUSES = "erp-refuses"
    CRASH = "crash"


ERP_FAULTS: tuple[Verb, ...] = (Verb.ERP_DOWN, Verb.ERP_REFUSES)
"""Faults of the ERP."""

PAYMENT_FAULTS: tuple[Verb, ...] = (
    Verb.PAYMENT_DOWN,
    Verb.PAYMENT_REFUSED,
    Verb.ANSWER_LOST,
    Verb.REFUSED_AGAIN,
    Verb.STALE_ANSWER,
)
"""Faults of the payment gateway, each for the payment of one line."""

FAULTS: tuple[Verb, ...] = (*ERP_FAULTS, *PAYMENT_FAULTS, Verb.CRASH)
"""Every fault that a scenario can inject: of the ERP, of the gateway, of the worker."""

ATTACKS: tuple[Verb, ...] = (
    Verb.RAW_APPROVE,
    Verb.RAW_REJECT,
    Verb.RAW_CANCEL,
    Verb.RAW_QUERY,
    Verb.TERMINATE,
)
"""What a raw client of Temporal can do without the MCP server, besides the signals."""

RESETS: tuple[Verb, ...] = (Verb.RESET, Verb.RESET_REAPPLIED)
"""Attacks for the simulator and the real server: the newest run, open or closed, is reset to its beginning.

`RESET_REAPPLIED` also reapplies the signals and updates of the old run, which is Temporal's default.
"""

_SOURCE = {
    Verb.TRIGGER: "await world.trigger(invoice)",
    Verb.TRIGGER_CHANGED: "await world.trigger(changed)",
    Verb.APPROVE: "await world.approve()",
    Verb.REJECT: "await world.reject()",
    Verb.CANCEL: "await world.cancel()",
    Verb.SIGNAL_APPROVE: 'await world.signal("ApproveInvoice")',
    Verb.SIGNAL_REJECT: 'await world.signal("RejectInvoice")',
    Verb.RAW_APPROVE: 'await world.raw_update("approve")',
    Verb.RAW_REJECT: 'await world.raw_update("reject")',
    Verb.RAW_CANCEL: "await world.handle().cancel()",
    Verb.RAW_QUERY: 'await world.handle().query("GetInvoiceReport")',
    Verb.TERMINATE: "await world.handle().terminate()",
    Verb.RESET: "await world.reset()",
    Verb.RESET_REAPPLIED: "await world.reset(reapplies=True)",
    Verb.ADVANCE: "await world.advance(timedelta(hours={hours!r}))",
    Verb.PAYMENT_REFUSED: "world.payments.refuses(line={line})",
    Verb.PAYMENT_DOWN: "world.payments.is_down(line={line})",
    Verb.ANSWER_LOST: "world.payments.loses_the_answer(line={line})",
    Verb.REFUSED_AGAIN: "world.payments.refuses_again(line={line})",
    Verb.STALE_ANSWER: "world.payments.repeats_an_answer(line={line})",
    Verb.ERP_DOWN: "world.erp.is_down()",
    Verb.ERP_REFUSES: "world.erp.refuses()",
    Verb.CRASH: "await world.crash_worker()\nawait world.restart_worker()",
}


MAX_HOURS = 1000 * 365 * 24
"""Limit of due dates and of the time that a scenario takes: a thousand years."""


class Action(BaseModel):
    """One action of a scenario.

    Attributes:
        line: Number of the line whose payment fails, from 1, for `PAYMENT_FAULTS`.
        hours: How much time an ADVANCE lets pass.

    >>> str(Action(verb=Verb.ADVANCE, hours=48))
    'advance-48h'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    verb: Verb
    line: int = Field(default=1, ge=1)
    hours: float = Field(default=24.0, gt=0, le=MAX_HOURS)

    def __str__(self) -> str:
        if self.verb is Verb.ADVANCE:
            return f"advance-{self.hours:g}h"
        return f"{self.verb}-{self.line}" if self.verb in PAYMENT_FAULTS else self.verb.value

    @property
    def code(self) -> str:
        """The Python code that performs the action on a `World`."""
        return _SOURCE[self.verb].format(line=self.line, hours=self.hours)


_PAST_DEADLINE = (DEFAULT_APPROVAL_TIMEOUT + timedelta(hours=2)) / timedelta(hours=1)

ACTION_ALPHABET: tuple[Action, ...] = (
    Action(verb=Verb.APPROVE),
    Action(verb=Verb.REJECT),
    Action(verb=Verb.CANCEL),
    Action(verb=Verb.SIGNAL_APPROVE),
    Action(verb=Verb.SIGNAL_REJECT),
    Action(verb=Verb.TRIGGER),
    Action(verb=Verb.TRIGGER_CHANGED),
    Action(verb=Verb.ADVANCE),
    Action(verb=Verb.ADVANCE, hours=_PAST_DEADLINE),
    Action(verb=Verb.PAYMENT_REFUSED),
    Action(verb=Verb.CRASH),
)
"""The alphabet of `action_sequences`."""
