"""What is promised of every scenario, and what it is called when a promise is broken."""

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
"""What is promised of every scenario, however it went."""


@dataclass(frozen=True)
class Violation:
    """A promise broken: which one, by which workflow, and what was seen."""

    rule: str
    workflow_id: str
    seen: str

    def __str__(self) -> str:
        return f"{self.rule} ({RULES[self.rule]}) {self.workflow_id}: {self.seen}"


class Violations(AssertionError):  # noqa: N818 (as pytest's own failures, it is no error of the harness)
    """A scenario broke promises.

    Attributes:
        found: All of them.
    """

    def __init__(self, found: list[Violation]) -> None:
        super().__init__("\n".join(str(violation) for violation in found))
        self.found = tuple(found)


Findings = Iterator[tuple[str, str]]
"""Of each thing that a rule finds: in which workflow, and what was seen."""
