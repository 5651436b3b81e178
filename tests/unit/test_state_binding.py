"""The embedded state as a whole: what is lost of it is told before anything is paid, never begun anew."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from invoice_mcp.adapters.erp import EmbeddedErp
from invoice_mcp.adapters.ledger import LedgerIdentity, PaymentLedger
from invoice_mcp.adapters.payments import Payments
from invoice_mcp.adapters.settings import ledger_path
from invoice_mcp.domain.errors import ConfigurationError
from invoice_mcp.domain.report import PaymentOrder
from invoice_mcp.service import state_binding as state
from invoice_mcp.service.state_binding import (
    StateSnapshot,
    bind_state,
    is_ledger_lost,
    is_temporal_lost,
    require_database,
)
from invoice_mcp.temporal.embedded import EmbeddedTemporal
from invoice_mcp.testing.world.fakes import RecordingPayments
from invoice_mcp.workflow.activities import InvoiceActivities
from invoice_mcp.workflow.line_workflow import PayLineItem
from tests.requirements import requirement
from tests.unit.test_embedded import kill
from tests.unit.test_ledger import RELEASE_0_1_0

BOUND = 30.0
QUEUE = "state"
NEW = StateSnapshot(temporal="T")
EMPTY = LedgerIdentity("L", "T", None, 0)
USED = LedgerIdentity("L", "T", None, 3)
UNBOUND = LedgerIdentity("L", None, None, 3)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def order(line: int) -> PaymentOrder:
    return PaymentOrder(
        idempotency_key=f"k{line}",
        invoice_id="INV-1",
        customer="ACME",
        line=line,
        description="Paper",
        amount=Decimal("99.50"),
        currency="EUR",
        due_date=datetime(2026, 1, 1, tzinfo=UTC),
    )


@requirement("STATE-LOST")
@pytest.mark.parametrize(
    ("known", "lost"),
    [
        (NEW, False),
        (replace(NEW, temporal_before="T"), False),
        (replace(NEW, temporal_before="T-old"), True),
        (replace(NEW, ledger=EMPTY), False),
        (replace(NEW, ledger=USED), False),
        (replace(NEW, ledger=EMPTY._replace(temporal="T-old")), False),  # nothing was paid
        (replace(NEW, ledger=USED._replace(temporal="T-old")), True),
        (replace(NEW, ledger=USED._replace(temporal="T-old"), begun=True), True),
        (replace(NEW, ledger=UNBOUND, begun=True), False),  # both of release 0.1.0
        (replace(NEW, ledger=UNBOUND), True),
        (replace(NEW, ledger=UNBOUND._replace(payments=0)), False),
    ],
)
def test_a_temporal_that_is_not_the_one_there_was_is_noticed(known: StateSnapshot, lost: bool) -> None:
    assert is_temporal_lost(known) is lost


@requirement("STATE-LOST")
@pytest.mark.parametrize(
    ("known", "lost"),
    [
        (NEW, False),
        (replace(NEW, ledger=USED), False),
        (replace(NEW, ledger=USED, ledger_before="L", begun=True), False),
        (replace(NEW, ledger=EMPTY, ledger_before="L-old"), True),
        (replace(NEW, ledger_before="L-old"), True),
        (replace(NEW, begun=True), True),  # of release 0.1.0
        (replace(NEW, ledger=UNBOUND, begun=True), False),
        (replace(NEW, ledger=USED, ledger_before="L", begun=True, missing_payment="P"), True),
    ],
)
def test_a_ledger_that_lacks_what_temporal_had_paid_is_noticed(known: StateSnapshot, lost: bool) -> None:
    assert is_ledger_lost(known) is lost


@asynccontextmanager
async def temporal(home: Path) -> AsyncIterator[Client]:
    async with EmbeddedTemporal(home) as embedded:
        yield await Client.connect(embedded.endpoint.address, data_converter=pydantic_data_converter)


async def bound(client: Client, home: Path, *, accept: bool = False) -> PaymentLedger:
    """The ledger, as a worker has it that starts now."""
    ledger = PaymentLedger(ledger_path(home))
    await bind_state(client, home, ledger, task_queue=QUEUE, accept_lost_state=accept)
    return ledger


async def refusal(client: Client, home: Path, ledger: PaymentLedger | None, task_queue: str = QUEUE) -> str:
    with pytest.raises(ConfigurationError) as refused:
        await bind_state(client, home, ledger, task_queue=task_queue)
    return str(refused.value)


async def pay(client: Client, payments: Payments, *lines: int, queue: str = QUEUE) -> None:
    """Pay lines one after another, without an invoice: the worker asks for none."""
    activities = InvoiceActivities(EmbeddedErp(), payments).all()
    async with Worker(client, task_queue=queue, workflows=[PayLineItem], activities=activities):
        for line in lines:
            await client.execute_workflow(PayLineItem.run, order(line), id=f"{queue}-line-{line}", task_queue=queue)
    # What has ended is listed a moment later.
    ended = f"WorkflowId = '{queue}-line-{lines[-1]}' AND ExecutionStatus = 'Completed'"
    with anyio.fail_after(BOUND):
        while not (await client.count_workflows(ended)).count:
            await anyio.sleep(0.02)


@requirement("STATE-LOST")
async def test_a_ledger_that_is_lost_or_older_is_told_and_nothing_is_paid(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = ledger_path(home)
    async with temporal(home) as client:
        # As release 0.1.0 did, which bound nothing: without its ledger it is noticed, with it it goes on.
        await pay(client, PaymentLedger(file), 1)
        file.rename(home / "away")
        assert "payments.db is missing" in await refusal(client, home, PaymentLedger(file))
        (home / "away").rename(file)
        await asyncio.gather(*[bound(client, home) for _ in range(8)])
        earlier = file.read_bytes()
        await pay(client, await bound(client, home), 2)
        assert caplog.messages == []
        whole = file.read_bytes()

        # It knows all but the newest payment.
        file.write_bytes(earlier)
        told = await refusal(client, home, PaymentLedger(file))
        for words in ("payments.db", "temporal.db", "what was paid is not known", "--accept-lost-state"):
            assert words in told

        file.unlink()
        assert await refusal(client, home, PaymentLedger(file)) == told
        # Also where nothing tells but that Temporal remembers it: no payment is listed yet.
        assert await refusal(client, home, PaymentLedger(file), task_queue="another") == told
        assert not file.exists()
        # Another one, which pays for the same Temporal.
        await PaymentLedger(file).bind((home / "temporal.id").read_text().strip())
        assert await refusal(client, home, PaymentLedger(file)) == told

        file.write_bytes(whole)
        await bound(client, home)
        file.unlink()
        assert caplog.messages == []
        await bound(client, home, accept=True)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "what was paid is not known" in caplog.text
        # What was accepted is not told again; what is lost from then on is.
        await pay(client, await bound(client, home), 3)
        await bound(client, home)
        assert len(caplog.messages) == 1
        copy = PaymentLedger(file)
        with closing(sqlite3.connect(file)) as db, db:
            db.execute("DELETE FROM payments")
        assert await refusal(client, home, copy) == told


@requirement("STATE-LOST")
@pytest.mark.parametrize(("bound", "value"), [("_MAX_LINES", 2), ("_SEARCH_TIMEOUT", 0.0)])
async def test_the_newest_payment_is_looked_for_within_bounds_which_are_told(
    real_client: Client,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
    value: float,
) -> None:
    queue = f"bounded{bound}"
    payments = RecordingPayments()
    payments.refuses(line=2)
    payments.refuses(line=3)
    await pay(real_client, payments, 1, 2, 3, queue=queue)
    assert await state._known_payments(real_client, queue, None) == (True, "PAY-INV-1-1-1")
    assert caplog.messages == []
    monkeypatch.setattr(state, bound, value)
    assert await state._known_payments(real_client, queue, None) == (True, None)
    [told] = caplog.messages
    assert told.startswith(f"Of the {value:.0f} lines that ended last on {queue} none was paid")


@requirement("STATE-LOST")
async def test_a_temporal_that_is_lost_is_told_and_nothing_is_bound(home: Path, real_client: Client) -> None:
    file = ledger_path(home)
    ledger = PaymentLedger(file)
    await ledger.bind("T-old")
    await ledger.pay(order(1))
    identity = await ledger.identity()
    told = await refusal(real_client, home, ledger)
    for words in (
        "temporal.db is missing, or another one",
        "payments.db",
        "what was paid is not known",
        "--accept-lost-state",
    ):
        assert words in told
    assert await ledger.identity() == identity
    assert [path.name for path in home.iterdir()] == ["payments.db"]


@requirement("STATE-LOST")
async def test_a_temporal_that_is_lost_to_a_real_gateway_is_told(
    home: Path, real_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    home.mkdir()
    await bind_state(real_client, home, None, task_queue=QUEUE)
    memory = home / "temporal.id"
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    await bind_state(real_client, home, None, task_queue=QUEUE)
    known = memory.read_text()
    memory.write_text("T-old\n")
    assert "temporal.db is missing, or another one" in await refusal(real_client, home, None)
    assert memory.read_text() == "T-old\n"
    for told in ("That is accepted", "Nothing is lost"):
        caplog.clear()
        await bind_state(real_client, home, None, task_queue=QUEUE, accept_lost_state=True)
        assert told in caplog.text
        assert "leave out --accept-lost-state" in caplog.text
    assert memory.read_text() == known
    assert [path.name for path in home.iterdir()] == ["temporal.id"]


@requirement("STATE-LOST")
async def test_a_ledger_of_release_0_1_0_whose_temporal_is_lost_is_told(home: Path, real_client: Client) -> None:
    home.mkdir()
    with closing(sqlite3.connect(ledger_path(home))) as db:
        db.executescript(RELEASE_0_1_0)
    assert "temporal.db is missing, or another one" in await refusal(
        real_client, home, PaymentLedger(ledger_path(home)), task_queue="nothing-was-paid-here"
    )


@requirement("STATE-LOST")
async def test_a_database_that_is_gone_is_told_before_another_is_made(home: Path) -> None:
    await require_database(home)
    ledger = PaymentLedger(ledger_path(home))
    await ledger.pay(order(1))
    await require_database(home)  # it may have paid for a Temporal elsewhere
    await ledger.bind("T")
    with pytest.raises(ConfigurationError, match="is missing, or another one"):
        await require_database(home)
    (home / "temporal.db").touch()
    await require_database(home)

    other = home / "gateway"
    other.mkdir()
    (other / "temporal.id").write_text("T\n")
    with pytest.raises(ConfigurationError, match="is missing, or another one"):
        await require_database(other)
    (other / "temporal.id").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"temporal\.id can't be read"):
        await require_database(other)


@requirement("STATE-LOST")
async def test_a_ledger_that_can_not_be_read_stops_the_worker(home: Path, real_client: Client) -> None:
    home.mkdir()
    ledger_path(home).write_bytes(b"not a database\n" * 500)
    assert "payments.db" in await refusal(real_client, home, PaymentLedger(ledger_path(home)))


@requirement("STATE-LOST")
async def test_a_database_that_is_removed_while_it_is_used_is_not_begun_anew(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with EmbeddedTemporal(home):
        for file in home.glob("temporal.db*"):
            file.unlink()
        kill(home, "both")
        with anyio.fail_after(BOUND):
            while "temporal.db was removed while it ran" not in caplog.text:
                await anyio.sleep(0.05)
        assert not (home / "temporal.db").exists()
