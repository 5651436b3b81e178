"""Partial-order reduction: schedules that differ only in the order of independent events are explored once.

See Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems" (LNCS 1032, 1996). An event of a line
is independent of all other events until its result is delivered to the invoice, which is an event of its own. So it is
enough to let a line that can do something do it before anything else. A line that may still be affected from outside
has one alternative: it is parked until it is affected. Only two things affect a line: its cancellation, which the
invoice requests when it is cancelled itself, and a crash of the worker.

`UnsoundReductionError` guards the assumption. `tests/scenarios/test_interleavings.py` compares the outcomes with those
of all schedules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from invoice_mcp.testing.simulate.explore.plan import ANY
from temporal_simulator import Event, Execution, Simulation

# Labels of events by which the invoice affects one of its lines.
_AFFECTS_A_LINE = frozenset({"cancellation is delivered", "signal is delivered", "parent has ended"})


class UnsoundReductionError(AssertionError):
    """The invoice affected a line in another way than by cancelling it after its own cancellation.

    The line's events are not independent then, and schedules that were left out may have other outcomes.
    """


@dataclass(frozen=True)
class Remaining:
    """What may still happen to the invoice from outside.

    Attributes:
        events: The rest of the plan's events.
        can_crash: Whether the worker may still crash.
    """

    events: tuple[str, ...]
    can_crash: bool


class LineReduction:
    """Decides which events of an execution are explored, and which lines are parked.

    Attributes:
        parked: Run ids of lines that do nothing until they are affected, and whether each was being cancelled when it
            was parked.
    """

    def __init__(self, simulation: Simulation, invoice: Execution) -> None:
        self._simulation = simulation
        self._invoice = invoice
        self.parked: dict[str, bool] = {}

    def persistent_set(self, events: Sequence[Event]) -> list[Event]:
        """All events of one line, if a line can do anything: exploring these alone is enough. Else nothing."""
        line = next((event.run_id for event in events if event.run_id != self._invoice.run_id), "")
        return [event for event in events if event.run_id == line]

    def may_be_affected(self, run_id: str, remaining: Remaining) -> bool:
        """Whether anything can still affect a line, so that parking it makes a difference."""
        is_cancelling = self._line(run_id).is_cancel_requested
        return remaining.can_crash or (not is_cancelling and self._may_be_cancelled(remaining.events))

    def is_relevant(self, event: str, remaining: Remaining) -> bool:
        """Whether the parked lines can still be affected at or after the next event from outside.

        If not, they are parked in vain: the execution in which they were not shows the same.
        """
        if not self.parked or remaining.can_crash or event == "cancel":
            return True
        return self._may_be_cancelled(remaining.events[1:])

    def park(self, run_id: str) -> None:
        """Let a line do nothing until it is affected."""
        self.parked[run_id] = self._line(run_id).is_cancel_requested

    def unpark_cancelled(self) -> None:
        """Let the lines whose cancellation was requested continue."""
        for run_id, was_cancelling in [*self.parked.items()]:
            if self._line(run_id).is_cancel_requested is not was_cancelling:
                del self.parked[run_id]

    def check(self, event: Event) -> None:
        """Check that an event keeps to the assumption of the reduction.

        Raises:
            UnsoundReductionError: It does not.
        """
        is_cancelling = event.label == "cancellation is delivered" and self._invoice.is_cancel_requested
        if event.label in _AFFECTS_A_LINE and not is_cancelling:
            raise UnsoundReductionError(
                f"The invoice affected one of its lines without having been cancelled itself: {event.label}. "
                "The reduction assumes that it never does"
            )

    def _may_be_cancelled(self, events: Sequence[str]) -> bool:
        """Whether the invoice is being cancelled, or may be by one of these events."""
        return self._invoice.is_cancel_requested or bool({"cancel", ANY} & {*events})

    def _line(self, run_id: str) -> Execution:
        return next(run for run in self._simulation.runs() if run.run_id == run_id)
