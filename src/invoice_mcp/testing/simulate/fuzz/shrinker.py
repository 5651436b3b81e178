"""Shrinks a failing scenario to a smaller one that still fails.

Leaves out parts of lists by delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing
Input", IEEE TSE 2002): everything first, then ever smaller chunks. Then replaces values by simpler ones, as tools for
property-based testing do. Pure: a callback plays the scenarios.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from invoice_mcp.testing.model.scenario import Line, Scenario

_SEEDS = range(8)
_DEFAULTED = (
    "protocol_mode",
    "client_interface",
    "customer",
    "currency",
    "changed_line",
    "metadata",
    "changes",
    "approval_hours",
    "names_runs",
)
_DEFAULT_LINE, _DEFAULT_HOURS = {"line": 1}, {"hours": 24.0}


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool], *, tries: int = 500) -> Scenario:
    """A scenario that fails and no single simplification of which fails; or the smallest found within `tries`.

    Args:
        fails: Whether a scenario fails by the same cause as the first one.
        tries: The most calls of `fails`.
    """
    tried = set[str]()
    smallest, is_smaller = scenario, True
    while is_smaller:
        is_smaller = False
        for candidate in _candidates(smallest):
            key = candidate.model_dump_json()
            if key in tried:
                continue
            if len(tried) >= tries:
                return smallest
            tried.add(key)
            if fails(candidate):
                smallest, is_smaller = candidate, True
                break
    return smallest


def _candidates(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios that are one step smaller, the biggest steps first."""
    for changes in _changes(scenario):
        candidate = scenario.model_copy(update=changes)
        if candidate == scenario:
            continue
        yield candidate
        if candidate.seed is not None and ("actions" in changes or "lines" in changes or "before" in changes):
            # A shorter scenario makes other choices from the same seed. Another seed may restore the failing schedule.
            yield from (candidate.model_copy(update={"seed": seed}) for seed in _SEEDS)


def _changes(scenario: Scenario) -> Iterator[dict[str, Any]]:
    if scenario.eager:
        yield {"eager": False, "seed": None}
    for field in ("actions", "before", "lines"):
        yield from ({field: fewer} for fewer in _sublists(getattr(scenario, field), minimum=field == "lines"))
    default = Scenario()
    for field in _DEFAULTED:
        yield {field: getattr(default, field)}
    for number, line in enumerate(scenario.lines):
        for simpler in _simpler_lines(line):
            yield {"lines": (*scenario.lines[:number], simpler, *scenario.lines[number + 1 :])}
    for field in ("actions", "before"):
        every = getattr(scenario, field)
        for number, action in enumerate(every):
            for update in (_DEFAULT_LINE, _DEFAULT_HOURS):
                yield {field: (*every[:number], action.model_copy(update=update), *every[number + 1 :])}
    if scenario.seed is not None:
        yield from ({"seed": seed} for seed in _SEEDS if seed < scenario.seed)


def _sublists(every: tuple[Any, ...], *, minimum: int) -> Iterator[tuple[Any, ...]]:
    """Without each chunk, from the end: chunks of the whole size, of half of it, and so on down to one element."""
    size = len(every) - minimum
    while size >= 1:
        for begin in range(len(every) - size, -1, -size):
            fewer = (*every[:begin], *every[begin + size :])
            if len(fewer) >= minimum:
                yield fewer
        size //= 2


def _simpler_lines(line: Line) -> Iterator[Line]:
    default = Line()
    yield default
    for field in ("description", "amount", "due_in_hours"):
        yield line.model_copy(update={field: getattr(default, field)})
