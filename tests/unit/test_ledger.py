"""What the payment ledger knows of itself: which one it is, whom it pays for, and that a line is paid once."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from invoice_mcp.adapters.ledger import PaymentLedger
from invoice_mcp.adapters.payments import PaymentRefusedError, PaymentUnavailableError
from invoice_mcp.domain.report import PaymentOrder
from tests.requirements import requirement

# The whole of a ledger's file as release 0.1.0 made it.
RELEASE_0_1_0 = """
CREATE TABLE payments (
    idempotency_key TEXT PRIMARY KEY NOT NULL,
    payment_id TEXT UNIQUE NOT NULL,
    invoice_id TEXT NOT NULL,
    line INTEGER NOT NULL,
    description TEXT NOT NULL,
    amount TEXT NOT NULL, -- text, as SQLite's numbers are floats
    currency TEXT NOT NULL,
    paid_at TEXT NOT NULL
);
PRAGMA application_id = 1229800272;
PRAGMA journal_mode = WAL;
INSERT INTO payments VALUES
    ('k1', 'PAY-INV-1-1-x', 'INV-1', 1, 'Paper', '99.50', 'EUR', '2026-11-01T00:00:00+00:00'),
    ('k2', 'PAY-INV-1-2-x', 'INV-1', 2, 'Ink', '7', 'EUR', '2026-11-01T00:00:00+00:00'),
    ('k3', 'PAY-INV-1-2-y', 'INV-1', 2, 'Ink, black', '8', 'EUR', '2026-11-02T00:00:00+00:00');
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "payments.db"


@pytest.fixture
def earlier(file: Path) -> Path:
    """A ledger of release 0.1.0."""
    with closing(sqlite3.connect(file)) as db:
        db.executescript(RELEASE_0_1_0)
        db.commit()
    return file


def order(key: str = "k1", line: int = 1, **changes: Any) -> PaymentOrder:
    order = PaymentOrder(
        idempotency_key=key,
        invoice_id="INV-1",
        customer="ACME",
        line=line,
        description="Paper",
        amount=Decimal("99.50"),
        currency="EUR",
        due_date=datetime(2026, 6, 30, tzinfo=UTC),
    )
    return order.model_copy(update=changes)


async def refusal(ledger: PaymentLedger, wanted: PaymentOrder) -> str:
    with pytest.raises(PaymentRefusedError) as refused:
        await ledger.pay(wanted)
    return str(refused.value)


@requirement("STATE-LINE")
@pytest.mark.parametrize("refuse", [False, True])
async def test_a_line_that_was_paid_is_not_paid_under_another_key(file: Path, refuse: bool) -> None:
    paid = (await PaymentLedger(file).pay(order())).payment_id
    ledger = PaymentLedger(file, refuse=refuse)
    said = await refusal(ledger, order("k9", amount=Decimal(100)))
    told = f"line 1 of invoice INV-1 was already paid, with other content: EUR 99.50 as {paid}. It is not paid again"
    assert said == f"LINE_ALREADY_PAID: {told}"
    assert (await ledger.pay(order())).payment_id == paid
    assert len(await ledger.entries()) == 1


@requirement("STATE-LINE")
async def test_another_line_and_another_invoice_are_paid(file: Path) -> None:
    ledger = PaymentLedger(file)
    wanted = [order(), order("k2", line=2), order("k3", invoice_id="INV-2")]
    assert len({(await ledger.pay(each)).payment_id for each in wanted}) == 3


@requirement("STATE-LINE")
async def test_of_ten_keys_for_a_line_at_once_one_is_paid(file: Path) -> None:
    ledgers = [PaymentLedger(file, patience=60) for _ in range(10)]
    asked = [ledger.pay(order(f"k{n}")) for n, ledger in enumerate(ledgers)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [answer.code for answer in answers if isinstance(answer, PaymentRefusedError)]
    assert refused == ["LINE_ALREADY_PAID"] * 9
    assert len(await PaymentLedger(file).entries()) == 1


async def test_a_ledger_of_release_0_1_0_goes_on(earlier: Path) -> None:
    ledger = PaymentLedger(earlier)
    identity = await ledger.identity()
    assert identity is not None
    assert identity[1:] == (None, None, 3)
    assert (await ledger.pay(order())).payment_id == "PAY-INV-1-1-x"
    assert (await refusal(ledger, order("k9"))).startswith("LINE_ALREADY_PAID: ")
    assert (await ledger.pay(order("k4", line=3))).payment_id.startswith("PAY-INV-1-3-")
    assert [entry.idempotency_key for entry in await ledger.entries()] == ["k1", "k2", "k3", "k4"]
    assert await PaymentLedger(earlier).identity() == (identity.id, None, None, 4)


async def test_release_0_1_0_pays_on_into_a_ledger_of_ours(file: Path) -> None:
    await PaymentLedger(file).bind("T")
    with closing(sqlite3.connect(file)) as db, db:
        assert db.execute("PRAGMA application_id").fetchone() == (0x494D4350,)
        db.execute(
            "INSERT INTO payments VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ("k", "P", "I", 1, "d", "1", "EUR", "2026-11-01T00:00:00Z"),
        )
    assert [entry.payment_id for entry in await PaymentLedger(file).entries()] == ["P"]


async def test_a_ledger_of_a_later_release_is_left_as_it_is(file: Path) -> None:
    await PaymentLedger(file).pay(order())
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("PRAGMA user_version = 2")
    before = file.read_bytes()
    with pytest.raises(PaymentUnavailableError, match="is of a newer release than this one"):
        await PaymentLedger(file).pay(order())
    assert file.read_bytes() == before


@requirement("STATE-LOST")
async def test_a_ledger_knows_which_one_it_is_and_whom_it_pays_for(file: Path) -> None:
    assert await PaymentLedger(file).identity() is None
    assert not await PaymentLedger(file).holds("P")
    assert not file.exists()
    own = await PaymentLedger(file).bind("T1")
    assert await PaymentLedger(file).bind("T1") == own
    assert await PaymentLedger(file).identity() == (own, "T1", None, 0)
    paid = (await PaymentLedger(file).pay(order())).payment_id
    assert await PaymentLedger(file).holds(paid)
    assert not await PaymentLedger(file).holds("P")
    then = datetime(2026, 11, 28, tzinfo=UTC)
    assert await PaymentLedger(file).bind("T2", complete_since=then) == own
    assert await PaymentLedger(file).bind("T3") == own
    assert await PaymentLedger(file).identity() == (own, "T3", then, 1)
    assert await PaymentLedger(file.with_name("other.db")).bind("T1") != own


@requirement("STATE-LOST")
async def test_a_ledger_that_is_gone_or_replaced_while_it_is_used_is_not_begun_anew(file: Path) -> None:
    ledger = PaymentLedger(file)
    await ledger.pay(order())
    file.unlink()
    with pytest.raises(PaymentUnavailableError, match="is gone, and what it has paid is not known"):
        await ledger.pay(order("k2", line=2))
    assert not file.exists()
    await PaymentLedger(file).bind("T")
    with pytest.raises(PaymentUnavailableError, match="was replaced by another one"):
        await ledger.pay(order("k2", line=2))
    assert await PaymentLedger(file).entries() == ()
