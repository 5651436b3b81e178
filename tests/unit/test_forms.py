"""What a person's answer to the form of a decision means."""

from __future__ import annotations

from typing import Any

import pytest
from mcp_types import ElicitResult

from invoice_mcp.server.forms import read_decision
from tests.requirements import requirement

REJECT: dict[str, Any] = {"decision": "reject", "comment": "Twice the price"}


@requirement("CONFIRM-QUESTION")
@pytest.mark.parametrize(
    ("answer", "decides"),
    [
        (ElicitResult(action="accept", content=REJECT), True),
        (ElicitResult(action="decline", content=REJECT), True),
        (ElicitResult(action="decline"), False),
        (ElicitResult(action="decline", content={"decision": "approve"}), False),
        # A form that was closed was not answered, whatever a client sends along.
        (ElicitResult(action="cancel", content=REJECT), False),
        (ElicitResult(action="cancel"), False),
    ],
)
def test_a_form_that_was_closed_or_declined_decides_nothing_unless_it_says_reject(
    answer: ElicitResult, decides: bool
) -> None:
    assert (read_decision(answer) is not None) is decides
