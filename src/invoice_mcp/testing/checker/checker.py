"""The promises S1 to S10, checked on what a scenario has left behind: ledger, reports and histories. Pure.

It knows nothing of what the scenario did, and nothing of how the workflow works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from invoice_mcp.testing.checker import consistency as telling
from invoice_mcp.testing.checker import content
from invoice_mcp.testing.checker import decisions as deciding
from invoice_mcp.testing.checker import payments as money
from invoice_mcp.testing.checker.observations import Observations
from invoice_mcp.testing.checker.violations import Findings, Violation

_CHECKS: Mapping[str, Callable[[Observations], Findings]] = MappingProxyType(
    {
        "S1": money.s1,
        "S2": money.s2,
        "S3": deciding.s3,
        "S4": money.s4,
        "S5": money.s5,
        "S6": money.s6,
        "S7": telling.s7,
        "S8": deciding.s8,
        "S9": telling.s9,
        "S10": content.s10,
    }
)


def check(observed: Observations) -> list[Violation]:
    """Every promise that is broken, the same one of the same workflow once."""
    first: dict[tuple[str, str], Violation] = {}
    for rule, finds in _CHECKS.items():
        for workflow_id, seen in finds(observed):
            first.setdefault((rule, workflow_id), Violation(rule, workflow_id, seen))
    return list(first.values())
