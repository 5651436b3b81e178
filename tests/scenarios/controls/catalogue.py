"""All controls: their faults, the rules that must catch them, and the scenarios that do."""

from __future__ import annotations

import inspect

from invoice_mcp.testing import Action, Line, Scenario, Verb
from invoice_mcp.testing.model.actions import ACTION_ALPHABET
from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
from invoice_mcp.workflow.line_workflow import PayLineItem
from invoice_mcp.workflow.worker import WORKFLOWS
from tests.scenarios.controls import decisions, lines, payments, reports
from tests.scenarios.controls.control import MODEL, Control, Script
from tests.scenarios.controls.scripts import (
    CRASHED,
    DECIDED_THEN_CRASHED,
    LATE,
    NAMED_TWICE,
    OPPOSITE,
    REFUSED,
    SIGNALLED,
    STORIES,
    UNDER_WAY,
)

_APPROVE, _REJECT, _CANCEL = Action(verb=Verb.APPROVE), Action(verb=Verb.REJECT), Action(verb=Verb.CANCEL)
_AGAIN, _CRASH = Action(verb=Verb.TRIGGER), Action(verb=Verb.CRASH)
_PAST_DEADLINE, _PAST_DUE = Action(verb=Verb.ADVANCE, hours=122), Action(verb=Verb.ADVANCE, hours=61)
_REFUSED_1, _REFUSED_2 = (Action(verb=Verb.PAYMENT_REFUSED, line=line) for line in (1, 2))
_DOWN_1, _LOST_1 = Action(verb=Verb.PAYMENT_DOWN), Action(verb=Verb.ANSWER_LOST)
_REFUSED_AGAIN_1, _STALE_2 = Action(verb=Verb.REFUSED_AGAIN), Action(verb=Verb.STALE_ANSWER, line=2)
_ALL_DUE = (Line(), Line(amount="250"))

# The ERP is asked again after the actions, where only the checker judges.
_ERP_AWAY = (Action(verb=Verb.ERP_DOWN),) * 4


def _scenario(*actions: Action, lines: tuple[Line, ...] = Scenario().lines, eager: bool = False) -> Scenario:
    return Scenario(actions=actions, lines=lines, eager=eager)


_NOTHING = _scenario()
_WITH_METADATA = Scenario(metadata=(("purchase_order", "4711"),))
_SIGNALLED = Scenario(actions=(Action(verb=Verb.SIGNAL_APPROVE),), signals_approve=False)
_EARLY = Scenario(before=_ERP_AWAY, actions=(_APPROVE,))
_TWICE = _scenario(_APPROVE, _APPROVE)
_OPPOSITE = _scenario(_APPROVE, _REJECT)
_EXPIRED = _scenario(_PAST_DEADLINE, _APPROVE)
_EAGER_LATE = _scenario(_PAST_DEADLINE, _APPROVE, eager=True)
_APPROVED = _scenario(_APPROVE)
_CENTS = _scenario(_APPROVE, lines=(Line(amount="99.50"),))
# Time passes before it ends: else, on a busy machine, the gateway may be healthy again before it is asked at all.
_LOST = _scenario(_LOST_1, _APPROVE, _PAST_DUE)
_REFUSED_AGAIN = _scenario(_REFUSED_AGAIN_1, _APPROVE, _PAST_DUE)
_RESUBMITTED_REFUSED = _scenario(_REFUSED_AGAIN_1, _APPROVE, _PAST_DUE, _AGAIN, _APPROVE, _PAST_DUE)
_DOWN = _scenario(_DOWN_1, _DOWN_1, _DOWN_1, _APPROVE)
_UNANSWERED = _scenario(_DOWN_1, _DOWN_1, _DOWN_1, _APPROVE, _PAST_DUE)
_RESUBMITTED = _scenario(_REFUSED_2, _APPROVE, _AGAIN, _APPROVE, lines=_ALL_DUE)
_CANCELLED = _scenario(_CANCEL)
_CANCELLED_PAYING = _scenario(_APPROVE, _CANCEL)
# Eager: the next answer shows the fault, without waiting for a cancellation that never comes.
_CANCELLED_EAGERLY = _scenario(_APPROVE, _CANCEL, _REJECT, lines=(Line(due_in_hours=60),), eager=True)
_CRASHED = _scenario(_APPROVE, _CRASH)
_CRASHED_WHEN_DUE = _scenario(_APPROVE, _CRASH, _PAST_DUE)

COMMON: tuple[Scenario | Script, ...] = (
    *(_scenario(action) for action in ACTION_ALPHABET),
    _NOTHING,
    _SIGNALLED,
    _WITH_METADATA,
    _EARLY,
    _TWICE,
    _OPPOSITE,
    _scenario(_REJECT, _APPROVE),
    _EXPIRED,
    _EAGER_LATE,
    _CENTS,
    _scenario(_REFUSED_1, _APPROVE, _PAST_DUE),
    _LOST,
    _scenario(_LOST_1, _LOST_1, _LOST_1, _APPROVE, _AGAIN),
    _REFUSED_AGAIN,
    _RESUBMITTED_REFUSED,
    _scenario(_STALE_2, _APPROVE, _PAST_DUE),
    _DOWN,
    _UNANSWERED,
    _RESUBMITTED,
    _CANCELLED_PAYING,
    _CANCELLED_EAGERLY,
    _CRASHED,
    _CRASHED_WHEN_DUE,
    _scenario(_APPROVE, _PAST_DUE, _AGAIN),
    _scenario(_CRASH, _APPROVE, _CRASH, _PAST_DUE),
    *STORIES,
)
"""The scenarios that every control plays after its own. The real workflows pass all of them."""


def _control(broken: type, breaks: str, *own: Scenario | Script, on_replay: bool = False) -> Control:
    replaced = InvoiceWorkflow if issubclass(broken, InvoiceWorkflow) else PayLineItem
    return Control(
        name=broken.__name__,
        wrong=(inspect.getdoc(broken) or "").rstrip("."),
        workflows=tuple(broken if each is replaced else each for each in WORKFLOWS),
        breaks=frozenset(breaks.split()),
        scenarios=tuple(dict.fromkeys((*own, *COMMON))),
        on_replay=on_replay,
    )


CONTROLS: tuple[Control, ...] = (
    _control(decisions.PaysBeforeApproval, "S1 S5", _NOTHING),
    _control(decisions.LastDecisionWins, "S3", OPPOSITE),
    _control(decisions.RepetitionReplaces, "S3", _TWICE),
    _control(decisions.AcknowledgesTheOpposite, MODEL, _OPPOSITE),
    _control(decisions.RefusesWithABareError, "S9", OPPOSITE),
    _control(decisions.LosesEarlyDecisions, "S8", _EARLY),
    _control(decisions.LosesDecisionOnReplay, "S8", DECIDED_THEN_CRASHED, on_replay=True),
    _control(decisions.DecidesByTheWallClock, "S3", _CRASHED, on_replay=True),
    _control(decisions.ForgetsTheDeadline, "L1", _NOTHING),
    _control(decisions.DeadlineADayLate, "S8", LATE),
    _control(decisions.DeadlineADayEarly, "S8", _NOTHING),
    _control(decisions.ExpiresAMinuteLate, "S8", _NOTHING),
    _control(decisions.ApprovesOnTimeout, "S1 S8", _NOTHING),
    _control(decisions.AcceptsAfterTheDeadline, MODEL, _EXPIRED),
    _control(decisions.SignalsAlwaysApprove, "S1 S8", SIGNALLED),
    _control(payments.DropsALine, "S4", _EARLY),
    _control(payments.ResubmissionPaysAgain, "S2", _RESUBMITTED),
    _control(payments.ForgetsWhatWasSettled, "S4", _RESUBMITTED_REFUSED),
    _control(payments.TakesAnotherLinesPayment, "S4", NAMED_TWICE),
    _control(payments.IgnoresCancellation, MODEL, _CANCELLED_EAGERLY),
    _control(payments.CancelsWhatIsUnderWay, "S4", UNDER_WAY),
    _control(payments.HangsOnABadLine, "L1", REFUSED),
    _control(payments.AbandonsItsLines, "S7", _CANCELLED_PAYING),
    _control(payments.OtherwiseOnReplay, "S9", CRASHED),
    _control(reports.ResultOutOfStep, "S7", _APPROVED),
    _control(reports.DropsMetadata, "S10", _WITH_METADATA),
    _control(reports.BaselineQueryOutOfStep, "S7", _APPROVED),
    _control(reports.CompletesThoughCancelled, "S7", _CANCELLED),
    _control(lines.PaysTwiceOnRetry, "S2", _LOST),
    _control(lines.IgnoresTheDueDate, "S6", _EARLY),
    _control(lines.PaysAnHourEarly, "S6", _APPROVED),
    _control(lines.ForgetsTheCents, "S4", _CENTS),
    _control(lines.CountsFailedAsPaid, "S4", REFUSED),
    _control(lines.DoubtsARefusal, "S4", REFUSED),
    _control(lines.SureOfNoAnswer, "S4", _UNANSWERED),
    _control(lines.SureOfARepeatedRefusal, "S4", _REFUSED_AGAIN),
)
