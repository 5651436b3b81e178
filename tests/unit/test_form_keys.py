"""Keys of questions: bound to the run, the words, the text and the hour, and to a nonce that no client knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from invoice_mcp.domain.report import Confirmation, DecisionRequest
from invoice_mcp.service.form_keys import FormKeys, form_number, text_digest
from tests.requirements import requirement

NOW = 1_800_000_000
HOUR = 3600
KEYS = FormKeys("run-1", "a nonce")
DECISION = DecisionRequest(by="Ann", comment="Checked", confirmation=Confirmation.NONE)
SHOWN = text_digest("Pay USD 1?")
KEY = KEYS.confirmation_key(DECISION, SHOWN, NOW)


@requirement("CONFIRM-QUESTION")
def test_a_key_tells_what_was_shown_for_an_hour() -> None:
    for now in (NOW, NOW + HOUR - 1):
        assert KEYS.verify_confirmation(KEY, DECISION, now) == SHOWN
    assert KEYS.verify_confirmation(KEY, DECISION, NOW + HOUR) is None


@requirement("CONFIRM-QUESTION", "CONFIRM-RUN")
@pytest.mark.parametrize(
    ("keys", "decision"),
    [
        (replace(KEYS, run_id="run-2"), DECISION),
        (replace(KEYS, nonce="another"), DECISION),
        (replace(KEYS, nonce=None), DECISION),
        (KEYS, DECISION.model_copy(update={"by": "Bob"})),
        (KEYS, DECISION.model_copy(update={"comment": "Urgent"})),
        # What is said in one field is not said in the other.
        (KEYS, DECISION.model_copy(update={"by": "AnnC", "comment": "hecked"})),
    ],
)
def test_it_counts_for_this_run_and_these_words_only(keys: FormKeys, decision: DecisionRequest) -> None:
    assert keys.verify_confirmation(KEY, decision, NOW) is None


@requirement("CONFIRM-QUESTION")
@pytest.mark.parametrize(
    "altered",
    [
        KEY.replace(str(NOW), str(NOW + 1)),
        KEY.replace(SHOWN, text_digest("Pay USD 2?")),
        KEY[:-1] + ("1" if KEY.endswith("0") else "0"),
        KEY.upper(),
        f"{KEY} ",
        f"{KEY}\n",
        KEY.replace(str(NOW), f"0{NOW}"),
        KEY.replace(str(NOW), "\u0661" * 10),
        "approve-1-",
        "approve",
        "",
        "\ud800",
    ],
)
def test_an_altered_key_is_none(altered: str) -> None:
    assert KEYS.verify_confirmation(altered, DECISION, NOW) is None


@requirement("CONFIRM-QUESTION")
def test_a_run_without_a_nonce_has_keys_that_no_other_process_makes() -> None:
    for nonce in (None, ""):
        own = FormKeys("run-1", nonce)
        assert own.verify_confirmation(own.confirmation_key(DECISION, SHOWN, NOW), DECISION, NOW) == SHOWN
        assert "nonce" not in repr(own)


@requirement("CONFIRM-QUESTION", "TASK-INVOICE")
def test_a_tasks_form_has_a_key_by_its_number_and_text() -> None:
    keys = [
        KEYS.decision_key(1, "Pay?"),
        KEYS.decision_key(2, "Pay?"),
        KEYS.decision_key(1, "Pay now?"),
        replace(KEYS, run_id="run-2").decision_key(1, "Pay?"),
        replace(KEYS, nonce="another").decision_key(1, "Pay?"),
    ]
    assert len(set(keys)) == len(keys)
    # The same whichever server is asked.
    assert replace(KEYS).decision_key(1, "Pay?") == keys[0]
    assert [form_number(key) for key in keys] == [1, 2, 1, 1, 1]
    with pytest.raises(AssertionError):
        form_number("decision-1")
