"""Makes a scenario that fails as small as it can be and still fail. Pure: whether it fails, others say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from invoice_mcp.testing.model.scenario import Line, Scenario

_SEEDS = range(8)
# What an action has where it says nothing else.
_HOW = ("approval_hours", "names_runs")
_FIRST_LINE, _A_DAY = {"line": 1}, {"hours": 24.0}


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool], *, tries: int = 500) -> Scenario:
    """The smallest scenario that is found by leaving out and making simpler, one thing at a time, while it fails.

    Args:
        fails: Whether a scenario fails as the first one does.
        tries: How often to ask that, at most.
    """
    asked = set[str]()
    best, is_smaller = scenario, True
    while is_smaller:
        is_smaller = False
        for candidate in _smaller(best):
            key = candidate.model_dump_json()
            if key in asked:
                continue
            if len(asked) >= tries:
                return best
            asked.add(key)
            if fails(candidate):
                best, is_smaller = candidate, True
                break
    return best


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """What is a step smaller: the biggest steps first."""
    for changed in _changes(scenario):
        candidate = scenario.model_copy(update=changed)
        if candidate == scenario:
            continue
        yield candidate
        if candidate.seed is not None and ("actions" in changed or "lines" in changed or "before" in changed):
            # With something left out, what remains falls otherwise: another seed may bring the old order back.
            yield from (candidate.model_copy(update={"seed": seed}) for seed in _SEEDS)


def _changes(scenario: Scenario) -> Iterator[dict[str, Any]]:
    if scenario.eager:
        yield {"eager": False, "seed": None}
    for field in ("actions", "before", "lines"):
        yield from ({field: fewer} for fewer in _fewer(getattr(scenario, field), least=field == "lines"))
    plain = Scenario()
    for field in (
        "protocol_mode",
        "client_interface",
        "customer",
        "currency",
        "changed_line",
        "metadata",
        "changes",
        *_HOW,
    ):
        yield {field: getattr(plain, field)}
    for number, line in enumerate(scenario.lines):
        for simpler in _simpler(line):
            yield {"lines": (*scenario.lines[:number], simpler, *scenario.lines[number + 1 :])}
    for field in ("actions", "before"):
        every = getattr(scenario, field)
        for number, action in enumerate(every):
            for update in (_FIRST_LINE, _A_DAY):
                yield {field: (*every[:number], action.model_copy(update=update), *every[number + 1 :])}
    if scenario.seed is not None:
        yield from ({"seed": seed} for seed in _SEEDS if seed < scenario.seed)


def _fewer(every: tuple[Any, ...], *, least: int) -> Iterator[tuple[Any, ...]]:
    """Without the second half, the first, a quarter, ... and at last without each one."""
    size = len(every) - least
    while size >= 1:
        for begin in range(len(every) - size, -1, -size):
            fewer = (*every[:begin], *every[begin + size :])
            if len(fewer) >= least:
                yield fewer
        size //= 2


def _simpler(line: Line) -> Iterator[Line]:
    plain = Line()
    yield plain
    for field in ("description", "amount", "due_in_hours"):
        yield line.model_copy(update={field: getattr(plain, field)})
