"""The timeline of an episode or an explored execution: what was done, what happened, and what was paid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from invoice_mcp.testing.records import RecordedPayment
from temporal_simulator import START_TIME, Simulation, TimelineEntry, timeline


def full_timeline(
    simulation: Simulation, actions: Sequence[TimelineEntry], ledger: Sequence[RecordedPayment], last: int | None = None
) -> tuple[TimelineEntry, ...]:
    """Actions and events in order, and at the end the payments.

    Args:
        actions: What was done from outside. The number of each is that of the event before it, so it is sorted before
            the events that it caused.
        last: Number of the last event to include.
    """
    events = [each for each in timeline(simulation) if last is None or each.number <= last]
    merged = sorted([*events, *actions], key=lambda entry: entry.number)
    paid = ", ".join(f"line {paid.order.line}: {paid.order.amount} at {paid.at:%F %T}" for paid in ledger)
    return (*merged, TimelineEntry(simulation.event_count + 1, simulation.now, "ledger", paid or "nothing was paid"))


def format_elapsed(entry: TimelineEntry) -> str:
    """Virtual time since the start of the simulation: days, then hours, minutes and seconds to the millisecond."""
    passed = entry.at - START_TIME
    minutes, seconds = divmod(passed.seconds, 60)
    return f"{passed.days:>4}d {minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{passed.microseconds // 1000:03}"


def timeline_lines(entries: Sequence[TimelineEntry]) -> list[str]:
    """A timeline as text, one line for each entry."""
    width = max((len(entry.who) for entry in entries), default=0)
    return [f"  {format_elapsed(entry)}  {entry.who:{width}}  {entry.what}" for entry in entries]


def timeline_data(entries: Iterable[TimelineEntry]) -> list[dict[str, Any]]:
    """A timeline as data for JSON."""
    return [{"at": each.at.isoformat(), "who": each.who, "what": each.what} for each in entries]
