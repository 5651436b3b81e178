"""The rules that hold for every scenario, and their violations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

RULES: Mapping[str, str] = MappingProxyType(
    {
        "S1": "No payment without an accepted approval.",
        "S2": "At most one payment per line, whatever is retried, killed, resubmitted or duplicated.",
        "S3": "The first decision never changes.",
        "S4": "PAID exactly when every line has one payment of the right amount; FAILED names exactly the unpaid ones.",
        "S5": "REJECTED, EXPIRED, or CANCELLED before approval: zero payments.",
        "S6": "No payment before its due date.",
        "S7": "The MCP answer, the query, the result and the history agree, and none denies a payment.",
        "S8": "A decision before the deadline counts, after it is refused.",
        "S9": "No input makes a tool answer with a traceback or leaves a workflow failing its tasks.",
        "S10": "What was submitted reaches workflow, ERP, gateway and report unchanged; one line has one key.",
        "L1": "Once decided or expired, with the outside world healthy, every invoice ends.",
    }
)
"""The promise of each rule, by its id. S rules are safety properties, L1 is a liveness property."""


@dataclass(frozen=True)
class Violation:
    """A broken rule.

    Attributes:
        rule: Id of the rule, a key of `RULES`.
        workflow_id: The workflow that breaks it; "" if no workflow is known.
        detail: What was observed.
    """

    rule: str
    workflow_id: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule} ({RULES[self.rule]}) {self.workflow_id}: {self.detail}"


class Violations(AssertionError):
    """A scenario broke rules. Test runners report it as a failed assertion.

    Attributes:
        found: The violations.

    Example:
        with pytest.raises(Violations) as raised:
            async with open_world(pool, ...) as world:
                ...
        assert {each.rule for each in raised.value.found} == {"S2"}
    """

    def __init__(self, found: list[Violation]) -> None:
        super().__init__("\n".join(str(violation) for violation in found))
        self.found = tuple(found)


Findings = Iterator[tuple[str, str]]
"""What a rule yields for each violation: the workflow id, and what was observed."""
