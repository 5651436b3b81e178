"""What an invoice may look like, and every fault it can have."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from invoice_mcp.cli.demo import sample_invoice
from invoice_mcp.domain.invoice import MAX_LINES, Invoice, describe_faults
from tests.requirements import requirement
from tests.tool_client import PAST_DUE, an_invoice


def faults(content: object) -> list[str]:
    """The faults of an invoice, one by one."""
    with pytest.raises(ValidationError) as refused:
        Invoice.model_validate(content)
    return describe_faults(refused.value).split("; ")


def with_amount(amount: object, currency: str = "USD") -> dict[str, Any]:
    invoice = an_invoice("A", currency=currency)
    invoice["lines"][0]["amount"] = amount
    return invoice


@requirement("INV-SAMPLE")
def test_the_sample_is_accepted_as_it_stands() -> None:
    invoice = Invoice.model_validate(sample_invoice())
    assert (invoice.invoice_id, invoice.customer, invoice.currency) == ("INV-100", "ACME Corp", "USD")
    assert str(invoice.total) == "300.00"


@requirement("INV-FAULTS", "INV-ZONE", "INV-UNKNOWN")
def test_every_fault_is_named_at_once_with_its_place() -> None:
    content = {
        "invoice_id": "a/b",
        "currency": "JPY",
        "colour": "red",
        "lines": [
            {"description": "no due date", "amount": 1.5},
            {"description": "no zone", "amount": 1, "due_date": "2026-06-30T00:00:00"},
            "garbage",
            {"description": "ok", "amount": "-3", "due_date": PAST_DUE, "discount": 1},
        ],
    }
    assert faults(content) == [
        "invoice_id: must be 1 to 64 letters, digits, '.', '_' or '-'",
        "customer: is required",
        "lines[0].due_date: is required",
        "lines[1].due_date: must have a zone, such as Z or +02:00",
        "lines[2]: must be an object",
        "lines[3].amount: must be a positive decimal number such as 100 or 99.95",
        "lines[3].discount: unknown field",
        "lines[0].amount: JPY amounts have at most 0 decimals",
        "colour: unknown field",
    ]


@requirement("INV-MONEY")
@pytest.mark.parametrize(
    ("amount", "currency", "exact"),
    [
        (100, "USD", "100.00"),
        (99.95, "EUR", "99.95"),
        ("0.1", "usd", "0.10"),
        (5, "JPY", "5"),
        ("1.234", "KWD", "1.234"),
        ("999999999999999.99", "USD", "999999999999999.99"),
    ],
)
def test_an_amount_has_its_currencys_decimals(amount: object, currency: str, exact: str) -> None:
    assert str(Invoice.model_validate(with_amount(amount, currency)).lines[0].amount) == exact


@requirement("INV-MONEY")
@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        (1.005, "USD"),
        (0.5, "JPY"),
        ("1.2345", "KWD"),
        (0, "USD"),
        ("0.00", "USD"),
        (-1, "USD"),
        ("1e3", "USD"),
        ("1_000", "USD"),
        ("1,50", "USD"),
        ("", "USD"),
        (True, "USD"),
        (None, "USD"),
        ([1], "USD"),
        (float("nan"), "USD"),
        (float("inf"), "USD"),
        (10**16, "USD"),
        pytest.param(10**5000, "USD", id="huge"),
        (1e300, "USD"),
        ("\u0661\u0660", "USD"),
        (Decimal("NaN"), "USD"),
    ],
)
def test_what_is_no_amount_of_the_currency_is_refused(amount: object, currency: str) -> None:
    assert any("amount" in fault for fault in faults(with_amount(amount, currency)))


@requirement("INV-MONEY")
@pytest.mark.parametrize("code", ["u\u017fd", "\u00dfp", "\u0131nr", "\uff35\uff33\uff24", "usd ", "us"])
def test_only_ascii_letters_name_a_currency_in_either_case(code: str) -> None:
    # In capitals, the first three are USD, SSP and INR.
    [fault] = faults(with_amount("1", code))
    assert fault.startswith("currency: must be an ISO 4217 currency code")
    assert Invoice.model_validate(with_amount("1", "usd")).currency == "USD"


@requirement("INV-MONEY")
@pytest.mark.parametrize(
    ("number", "currency"),
    [
        ("99999999999999.99", "USD"),
        ("8796093022209.001", "KWD"),
        ("999999999999999.01", "EUR"),
        ("140737488355328.01", "EUR"),
        ("17592186044416.001", "KWD"),
        ("100000000000.0001", "CLF"),
    ],
)
def test_a_json_number_that_may_have_been_another_one_is_refused(number: str, currency: str) -> None:
    # Read as a number, it may be the same as its neighbour a cent away.
    [fault] = faults(with_amount(float(number), currency))
    assert fault.endswith('is larger than JSON numbers with decimals are exact: write it as text, such as "99.95"')
    assert str(Invoice.model_validate(with_amount(number, currency)).lines[0].amount) == number


@requirement("INV-MONEY")
@given(st.integers(1, 10**15 - 1))
def test_a_json_number_that_is_taken_is_exact(units: int) -> None:
    exact = Decimal(units).scaleb(-4)
    assert Invoice.model_validate(with_amount(float(exact), "CLF")).lines[0].amount == exact


@requirement("INV-MONEY")
@pytest.mark.parametrize("currency", ["", "US", "XXX", "XAU", "BTC", 840, None, "€"])
def test_what_is_no_currency_one_can_pay_in_is_refused(currency: object) -> None:
    assert faults(an_invoice("A", currency=currency)) == [
        "currency: must be an ISO 4217 currency code such as USD, EUR or JPY"
    ]


@requirement("INV-ZONE")
@pytest.mark.parametrize(
    "due", ["2026-06-30", "2026-06-30T00:00:00", 5, "5", 1719705600, "tomorrow", "", None, "9999-12-31T23:59:59-10:00"]
)
def test_a_due_date_without_zone_or_sense_is_refused(due: Any) -> None:
    assert any("due_date" in fault for fault in faults(an_invoice("A", ("1", due))))


@requirement("INV-ZONE")
@pytest.mark.parametrize(("first", "accepted", "refused"), [(True, 1900, 1899), (False, 2999, 3000)])
def test_due_dates_lie_between_the_years_1900_and_2999(first: bool, accepted: int, refused: int) -> None:
    moment = "01-02T00:00:00Z" if first else "12-30T00:00:00Z"
    Invoice.model_validate(an_invoice("A", ("1", f"{accepted}-{moment}")))
    assert faults(an_invoice("A", ("1", f"{refused}-{moment}"))) == [
        "lines[0].due_date: must lie between the years 1900 and 2999"
    ]


@requirement("INV-ZONE")
def test_the_same_moment_in_another_zone_is_the_same_content() -> None:
    here, there = (
        Invoice.model_validate(an_invoice("A", ("1", due)))
        for due in ("2026-06-30T02:00:00+02:00", "2026-06-30T00:00:00Z")
    )
    assert here.content_digest == there.content_digest


@requirement("INV-BOUNDS")
@pytest.mark.parametrize("invoice_id", ["", "x" * 65, "a b", "a/b", "ü", "a\n", "A-line-1", 7])
def test_what_is_no_invoice_id_is_refused(invoice_id: Any) -> None:
    assert all(fault.startswith("invoice_id: ") for fault in faults(an_invoice(invoice_id)))


@requirement("INV-BOUNDS")
@pytest.mark.parametrize("invoice_id", ["x" * 64, "A.b_c-9", "..", "A-line-", "line-1"])
def test_what_is_an_invoice_id_is_accepted(invoice_id: str) -> None:
    assert Invoice.model_validate(an_invoice(invoice_id)).invoice_id == invoice_id


@requirement("INV-BOUNDS")
@pytest.mark.parametrize("count", [0, MAX_LINES + 1, 10_000])
def test_no_lines_and_too_many_are_refused(count: int) -> None:
    assert faults(an_invoice("A") | {"lines": [{}] * count}) == ["lines: must hold 1 to 500 lines"]


@requirement("INV-BOUNDS")
def test_five_hundred_lines_are_accepted() -> None:
    assert len(Invoice.model_validate(an_invoice("A", *[("1", PAST_DUE)] * MAX_LINES)).lines) == MAX_LINES


@requirement("TOOL-TEXT")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "a\x00b",
        "a\x1b[2J",
        "\u202egro.live",
        pytest.param("\ud800", id="surrogate"),
        "x" * 501,
        5,
        None,
        ["a"],
    ],
)
def test_a_name_that_cannot_be_read_is_refused(text: object) -> None:
    assert all(fault.startswith("customer: ") for fault in faults(an_invoice("A", customer=text)))


@requirement("INV-FAULTS")
def test_many_faults_are_counted_and_hostile_field_names_stay_on_one_line() -> None:
    assert faults(an_invoice("A") | {"lines": [{}] * 60})[-1] == "and 160 more"
    hostile = {"{evil}\n\x1b[2J" + "x" * 1000: 1}
    (told,) = faults(an_invoice("A", **hostile))
    assert told.isprintable()
    assert len(told) <= 200


@given(
    st.lists(st.decimals("0.01", "999999999", places=2), min_size=1, max_size=20),
    st.dictionaries(st.text("abc", min_size=1), st.text(st.characters(codec="utf-8"), max_size=20), max_size=3),
)
def test_an_invoice_survives_its_way_through_json_unchanged(amounts: list[Decimal], metadata: dict[str, str]) -> None:
    invoice = Invoice.model_validate(
        an_invoice("A", *[(str(amount), PAST_DUE) for amount in amounts], metadata=metadata)
    )
    again = Invoice.model_validate(json.loads(invoice.model_dump_json()))
    assert again == invoice
    assert again.content_digest == invoice.content_digest
    assert invoice.total == sum(amounts)
    assert invoice.metadata == metadata


@requirement("INV-UNKNOWN", "TOOL-SCHEMAS")
def test_metadata_may_come_as_pairs_for_hosts_that_know_no_open_objects() -> None:
    pairs = [{"key": "order", "value": "4711"}, {"key": "by", "value": "Ann"}]
    as_pairs = Invoice.model_validate(an_invoice("A", metadata=pairs))
    assert as_pairs == Invoice.model_validate(an_invoice("A", metadata={"order": "4711", "by": "Ann"}))
    assert as_pairs.content_digest == Invoice.model_validate(an_invoice("A", metadata=as_pairs.metadata)).content_digest
    assert Invoice.model_validate(an_invoice("A", metadata=[])).metadata == {}


@requirement("INV-METADATA-NULL")
def test_metadata_that_is_null_is_none_and_no_other_submission_than_without() -> None:
    without = an_invoice("A")
    without.pop("metadata", None)
    null = Invoice.model_validate(without | {"metadata": None})
    assert null.metadata == {}
    assert null == Invoice.model_validate(without)
    assert null.content_digest == Invoice.model_validate(without).content_digest


@requirement("INV-FAULTS")
@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ("text", "metadata: must be an object"),
        ([1], "metadata: must be an object, or a list of objects with key and value"),
        ([{"key": "a"}], "metadata: must be an object, or a list of objects with key and value"),
        ([{"key": "a", "value": "1"}] * 2, "metadata: must have texts as keys, and none of them twice"),
        ([{"key": ["a"], "value": "1"}], "metadata: must have texts as keys, and none of them twice"),
        ([{"key": "a", "value": 1}], "metadata.a: "),
        ([{"key": str(n), "value": ""} for n in range(65)], "metadata: "),
    ],
)
def test_metadata_that_is_none_is_named(metadata: object, told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Invoice.model_validate(an_invoice("A", metadata=metadata))
    assert describe_faults(refused.value).startswith(told)
