"""Runs the rules S1 to S10 on the observations of a scenario: ledger, reports, tool answers and histories. Pure.

The technique is history-based checking, as in Jepsen: the checker sees only what was recorded, neither the scenario nor
the implementation. The rules about decisions and attempts are written independently of the workflow, on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from invoice_mcp.testing.checker import consistency, content, decisions, payments
from invoice_mcp.testing.checker.observations import Observations
from invoice_mcp.testing.checker.violations import Findings, Violation

_CHECKS: Mapping[str, Callable[[Observations], Findings]] = MappingProxyType(
    {
        "S1": payments.s1,
        "S2": payments.s2,
        "S3": decisions.s3,
        "S4": payments.s4,
        "S5": payments.s5,
        "S6": payments.s6,
        "S7": consistency.s7,
        "S8": decisions.s8,
        "S9": consistency.s9,
        "S10": content.s10,
    }
)


def check(observed: Observations) -> list[Violation]:
    """Returns the violations, at most one for each rule and workflow.

    Example:
        assert check(await world.observe()) == []
    """
    first: dict[tuple[str, str], Violation] = {}
    for rule, find in _CHECKS.items():
        for workflow_id, detail in find(observed):
            first.setdefault((rule, workflow_id), Violation(rule, workflow_id, detail))
    return list(first.values())
