"""The payment port: one key is one payment, in the ledger whoever asks, and over HTTP whatever is answered."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from invoice_mcp.adapters.ledger import PaymentLedger
from invoice_mcp.adapters.payments import HttpPayments, PaymentRefusedError, Payments, PaymentUnavailableError
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import AcceptedInvoice, PaymentOrder
from tests.requirements import requirement
from tests.unit.faulty_http import (
    Behaviour,
    Request,
    answers,
    answers_twice,
    drips,
    floods,
    hangs,
    misbehaving,
    resets,
    says,
    truncates,
)

SHORT = 0.3
LONG = 5.0
# Long enough for any number of processes on a slow machine: nobody waits for it unless something is wrong.
PATIENT = 60.0


@pytest.fixture(autouse=True)
def _straight_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "payments.db"


def orders(count: int = 1, **changes: Any) -> list[PaymentOrder]:
    lines = [{"description": f"Paper {n}", "amount": "99.50", "due_date": "2026-06-30T00:00:00Z"} for n in range(count)]
    invoice = Invoice.model_validate({"invoice_id": "INV-1", "customer": "ACME", "currency": "EUR", "lines": lines})
    accepted = AcceptedInvoice.of(invoice)
    return [PaymentOrder.for_line(accepted, n + 1).model_copy(update=changes) for n in range(count)]


async def asked(payments: Payments, order: PaymentOrder | None = None) -> str:
    """What becomes of a payment, within bounds: its id, `CODE: reason` or `unavailable: ...`."""
    try:
        async with asyncio.timeout(LONG * 2):
            told = (await payments.pay(order or orders()[0])).payment_id
    except PaymentRefusedError as refusal:
        told = str(refusal)
        assert told == f"{refusal.code}: {refusal.reason}"  # noqa: PT017 - whether it raises is what is asked
    except PaymentUnavailableError as trouble:
        told = f"unavailable: {trouble}"
    assert told.isprintable()
    assert len(told) <= 500
    return told


class TestLedger:
    @requirement("PORT-LEDGER")
    async def test_a_payment_asked_for_twice_is_one_payment(self, file: Path) -> None:
        first, again = [await asked(PaymentLedger(file)) for _ in range(2)]
        assert first == again
        assert first.startswith("PAY-INV-1-1-")
        assert len(await PaymentLedger(file).entries()) == 1

    async def test_the_ledger_shows_every_payment_with_its_exact_amount(self, file: Path) -> None:
        ledger = PaymentLedger(file)
        first, second = orders(2)
        second = second.model_copy(update={"amount": Decimal("1E+2")})
        ids = [await asked(ledger, order) for order in (first, second)]
        entries = await ledger.entries()
        assert [entry.payment_id for entry in entries] == ids
        assert [str(entry.amount) for entry in entries] == ["99.50", "100"]
        shared = {"idempotency_key", "invoice_id", "line", "description", "currency", "amount"}
        assert [entry.model_dump(include=shared) for entry in entries] == [
            order.model_dump(include=shared) for order in (first, second)
        ]
        for entry in entries:
            assert entry.paid_at.utcoffset() == timedelta(0)
            assert abs(datetime.now(UTC) - entry.paid_at) < timedelta(minutes=1)

    async def test_amounts_are_stored_as_text(self, file: Path) -> None:
        await asked(PaymentLedger(file))
        with closing(sqlite3.connect(file)) as db:
            assert db.execute("SELECT typeof(amount), amount FROM payments").fetchall() == [("text", "99.50")]

    async def test_payments_survive_in_a_write_ahead_log(self, file: Path) -> None:
        ledger = PaymentLedger(file)
        await asked(ledger)
        with ledger._open() as db:
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert db.execute("PRAGMA synchronous").fetchone() == (2,)

    @pytest.mark.parametrize("change", [{"amount": Decimal("99.51")}, {"currency": "USD"}])
    @pytest.mark.parametrize("refuse", [False, True])
    async def test_a_key_used_for_other_money_is_refused_and_never_paid(
        self, file: Path, change: dict[str, Any], refuse: bool
    ) -> None:
        await asked(PaymentLedger(file))
        said = await asked(PaymentLedger(file, refuse=refuse), orders(**change)[0])
        assert said.startswith("IDEMPOTENCY_CONFLICT: this payment was already paid as EUR 99.50; it can't be paid as ")
        assert [str(entry.amount) for entry in await PaymentLedger(file).entries()] == ["99.50"]

    async def test_the_same_amount_written_otherwise_is_the_same_payment(self, file: Path) -> None:
        ledger = PaymentLedger(file)
        assert await asked(ledger) == await asked(ledger, orders(amount=Decimal("99.5"))[0])

    async def test_a_refusing_ledger_pays_nothing_new_but_answers_what_was_paid(self, file: Path) -> None:
        paid, new = orders(2)
        payment_id = await asked(PaymentLedger(file), paid)
        refusing = PaymentLedger(file, refuse=True)
        assert await asked(refusing, paid) == payment_id
        assert (await asked(refusing, new)).startswith("INSUFFICIENT_FUNDS: ")
        assert len(await refusing.entries()) == 1

    async def test_a_ledger_that_does_not_exist_is_empty_and_stays_away(self, file: Path) -> None:
        assert await PaymentLedger(file).entries() == ()
        assert not file.parent.exists()

    async def test_the_file_and_its_directory_are_private(self, file: Path) -> None:
        ledger = PaymentLedger(file)
        await asked(ledger)
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        with ledger._open() as db:
            db.execute("SELECT count(*) FROM payments").fetchone()
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
        assert modes == {"payments.db": 0o600, "payments.db-wal": 0o600, "payments.db-shm": 0o600}


PAYER = """
import asyncio, json, sys
from pathlib import Path
from invoice_mcp.adapters.ledger import PaymentLedger
from invoice_mcp.domain.report import PaymentOrder

async def pay():
    ledger = PaymentLedger(Path(sys.argv[1]), patience=60)
    print("ready", flush=True)
    orders = [PaymentOrder.model_validate(order) for order in json.loads(sys.stdin.readline())]
    receipts = await asyncio.gather(*[ledger.pay(order) for order in orders])
    print(json.dumps([receipt.payment_id for receipt in receipts]))

asyncio.run(pay())
"""


class TestLedgerShared:
    async def test_fifty_tasks_asking_at_once_make_one_payment(self, file: Path) -> None:
        ledgers = [PaymentLedger(file, patience=PATIENT) for _ in range(50)]
        async with asyncio.timeout(PATIENT):
            receipts = await asyncio.gather(*[ledger.pay(orders()[0]) for ledger in ledgers])
        assert len({receipt.payment_id for receipt in receipts}) == 1
        assert len(await ledgers[0].entries()) == 1

    async def test_fifty_different_payments_at_once_are_all_made(self, file: Path) -> None:
        ledger = PaymentLedger(file, patience=PATIENT)
        async with asyncio.timeout(PATIENT):
            receipts = await asyncio.gather(*[ledger.pay(order) for order in orders(50)])
        assert {receipt.payment_id for receipt in receipts} == {entry.payment_id for entry in await ledger.entries()}
        assert len({receipt.payment_id for receipt in receipts}) == 50

    @requirement("PORT-LEDGER")
    async def test_two_processes_paying_the_same_orders_at_once_pay_each_once(self, file: Path) -> None:
        wanted = (json.dumps([order.model_dump(mode="json") for order in orders(20)]) + "\n").encode()
        pipe = asyncio.subprocess.PIPE
        async with asyncio.timeout(PATIENT):
            payers = [
                await asyncio.create_subprocess_exec(sys.executable, "-c", PAYER, str(file), stdin=pipe, stdout=pipe)
                for _ in range(2)
            ]
            try:
                for payer in payers:
                    assert payer.stdout is not None
                    assert await payer.stdout.readline() == b"ready\n"
                # Both are up and waiting: they start on the same ledger, which does not exist yet, together.
                told = [out for out, _ in await asyncio.gather(*[payer.communicate(wanted) for payer in payers])]
            finally:
                for payer in payers:
                    if payer.returncode is None:
                        payer.kill()
                    await payer.wait()
        assert [payer.returncode for payer in payers] == [0, 0]
        first, second = [json.loads(out) for out in told]
        assert first == second
        assert sorted(first) == sorted(entry.payment_id for entry in await PaymentLedger(file).entries())
        assert len(set(first)) == 20


@contextmanager
def held(file: Path) -> Iterator[sqlite3.Connection]:
    """The ledger's write lock, in other hands."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def _foreign(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")


def _of_another_program(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA application_id = 7")


def _garbage(file: Path) -> None:
    file.write_bytes(b"not a database\n" * 500)


def _with_a_table_less(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA application_id = 0x494D4350")


def _damaged(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100] + b"\xff" * 5000)


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


class TestLedgerInTrouble:
    async def test_a_ledger_held_by_others_for_too_long_is_unavailable(self, file: Path) -> None:
        ledger = PaymentLedger(file, patience=SHORT)
        await asked(ledger)
        began = time.monotonic()
        with held(file):
            assert await asked(ledger) == f"unavailable: the payment ledger {file}: database is locked"
        assert SHORT <= time.monotonic() - began < LONG

    async def test_a_ledger_held_for_a_while_is_waited_for(self, file: Path) -> None:
        ledger = PaymentLedger(file, patience=LONG)
        await asked(ledger)
        with held(file) as other:
            asyncio.get_running_loop().call_later(0.1, other.rollback)
            assert (await asked(ledger, orders(2)[1])).startswith("PAY-INV-1-2-")

    async def test_a_ledger_claimed_by_somebody_faster_is_taken_as_it_is(self, file: Path) -> None:
        ledger = PaymentLedger(file)
        paid = await asked(ledger)
        with ledger._open() as db:
            ledger._claim(db)
        assert await asked(ledger) == paid

    @pytest.mark.parametrize("spoil", [_foreign, _of_another_program, _garbage, _with_a_table_less])
    async def test_a_file_that_is_no_ledger_is_named(self, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
        file = tmp_path / "payments.db"
        spoil(file)
        for said in [await asked(PaymentLedger(file)), await shown(PaymentLedger(file))]:
            assert said.startswith("unavailable: ")
            assert str(file) in said

    @pytest.mark.parametrize("spoil", [_foreign, _of_another_program, _garbage])
    async def test_another_programs_file_is_left_as_it_is(self, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
        file = tmp_path / "payments.db"
        spoil(file)
        before = _contents(tmp_path)
        await asked(PaymentLedger(file))
        assert _contents(tmp_path) == before

    async def test_a_damaged_ledger_is_named(self, file: Path) -> None:
        await asked(PaymentLedger(file))
        _damaged(file)
        assert (await asked(PaymentLedger(file))).startswith(f"unavailable: the payment ledger {file}: ")

    @pytest.mark.parametrize("amount", ["'much'", "x'ff00'"])
    async def test_an_amount_that_is_none_makes_no_traceback(self, file: Path, amount: str) -> None:
        await asked(PaymentLedger(file))
        with closing(sqlite3.connect(file)) as db, db:
            db.execute(f"UPDATE payments SET amount = {amount}")
        for said in [await asked(PaymentLedger(file)), await shown(PaymentLedger(file))]:
            assert said.startswith(f"unavailable: the payment ledger {file}: ")

    async def test_a_place_where_no_file_can_be_is_named_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "directory").mkdir()
        for place in [tmp_path / "file" / "payments.db", tmp_path / "directory"]:
            said = await asked(PaymentLedger(place, patience=PATIENT))
            assert said.startswith(f"unavailable: the payment ledger {place}: ")


async def shown(ledger: PaymentLedger) -> str:
    with pytest.raises(PaymentUnavailableError) as trouble:
        await ledger.entries()
    return f"unavailable: {trouble.value}"


async def verdict(behaviour: Behaviour, *, timeout: float = LONG) -> str:  # noqa: ASYNC109 - it is the adapter's
    async with misbehaving(behaviour) as server, aclosing(HttpPayments(server.url, timeout=timeout)) as payments:
        return await asked(payments)


class TestHttp:
    async def test_the_order_is_posted_as_json_under_its_key(self) -> None:
        (order,) = orders()
        receipt = answers(201, {"payment_id": "P-7"})
        async with misbehaving(receipt) as server, aclosing(HttpPayments(f"{server.url}/v1")) as payments:
            assert await asked(payments, order) == "P-7"
        (request,) = server.requests
        assert (request.method, request.path) == ("POST", "/v1/payments")
        assert request.headers["idempotency-key"] == order.idempotency_key
        assert request.json()["amount"] == "99.50"
        assert PaymentOrder.model_validate(request.json()) == order

    @requirement("PAY-KEY")
    async def test_whatever_is_asked_again_is_asked_alike(self) -> None:
        """Orders in turn, with and without an answer: each request says all that its order says, the key as well."""
        wanted = [*orders(2), *orders(2), *orders(2, currency="JPY", idempotency_key="another")]
        async with misbehaving(answers(503, {})) as server, aclosing(HttpPayments(server.url)) as payments:
            for number, order in enumerate(wanted):
                server.behaviour = answers(503, {}) if number % 3 else answers(200, {"payment_id": "P"})
                await asked(payments, order)
        told = [(PaymentOrder.model_validate(each.json()), each.headers["idempotency-key"]) for each in server.requests]
        assert told == [(order, order.idempotency_key) for order in wanted]

    async def test_a_client_of_ones_own_is_used_and_left_open(self) -> None:
        async with misbehaving(answers(200, {"payment_id": "P"})) as server, httpx2.AsyncClient() as client:
            async with aclosing(HttpPayments(server.url, client=client)) as payments:
                assert await asked(payments) == "P"
            assert not client.is_closed

    def test_a_url_that_is_none_is_refused_at_once(self) -> None:
        with pytest.raises(ValueError, match="the URL of the payment gateway"):
            HttpPayments("gateway.local")

    @requirement("PORT-GATEWAY")
    @pytest.mark.parametrize(
        ("status", "body", "refusal"),
        [
            (402, {}, "INSUFFICIENT_FUNDS: the payment gateway answered 402"),
            (402, b"", "INSUFFICIENT_FUNDS: the payment gateway answered 402"),
            (402, {"code": "CARD_EXPIRED", "reason": "since May"}, "CARD_EXPIRED: since May"),
            (400, {"code": "ACCOUNT_CLOSED", "error": "long ago"}, "ACCOUNT_CLOSED: long ago"),
            (422, {"code": 7, "reason": 7}, "PAYMENT_REFUSED: the payment gateway answered 422"),
            (422, {"code": " ", "reason": "no"}, "PAYMENT_REFUSED: no"),
            (400, b"<html>", "PAYMENT_REFUSED: the payment gateway answered 400"),
        ],
    )
    async def test_a_refusal_is_final_and_has_a_code(self, status: int, body: object, refusal: str) -> None:
        assert await verdict(answers(status, body)) == refusal

    async def test_a_long_or_unprintable_refusal_is_shortened_and_made_printable(self) -> None:
        said = await verdict(answers(422, {"code": "\x1b" + "C" * 999, "reason": "\ud800" + "r" * 9999}))
        code, _, reason = said.partition(": ")
        assert (len(code), code[:5], code[-2:]) == (64, "\\x1bC", "C…")
        assert (len(reason), reason[:7], reason[-2:]) == (300, "\\ud800r", "r…")

    @pytest.mark.parametrize(
        "body", [{"reason": "in progress"}, {"code": "idempotency_key_in_use"}, {}, b"", b"in progress"]
    )
    async def test_a_key_in_progress_is_no_verdict(self, body: object) -> None:
        assert (await verdict(answers(409, body))).startswith(
            "unavailable: the same payment may be under way already: "
        )

    @requirement("PORT-GATEWAY")
    @pytest.mark.parametrize("status", [401, 403, 404, 405, 407, 301, 408, 425, 429, 500, 502, 503])
    async def test_what_speaks_of_the_setup_or_the_moment_is_no_verdict_whatever_its_code(self, status: int) -> None:
        said = await verdict(answers(status, {"code": "UNAUTHORIZED", "payment_id": "P"}))
        assert said.startswith("unavailable: the payment gateway at ")
        assert f" answered {status}: " in said

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"PAID",
            {},
            ["P"],
            {"payment_id": None},
            {"payment_id": 7},
            {"payment_id": ""},
            {"payment_id": " "},
            {"payment_id": "\ud800"},
            {"payment_id": "P\n"},
            {"payment_id": "P" * 201},
            b'{"payment_id": ' + b"[" * 60_000,
        ],
    )
    async def test_a_success_without_a_usable_payment_id_is_no_verdict(self, body: object) -> None:
        said = await verdict(answers(200, body))
        assert said == "unavailable: the payment gateway answered 200 without a usable payment_id"

    @pytest.mark.parametrize(
        "behaviour",
        [resets, truncates(200), truncates(402), floods(200), floods(500), says(b""), says(b"\xff\x00\r\n\r\n")],
        ids=["reset", "truncated", "truncated-402", "endless", "endless-500", "silent", "garbage"],
    )
    async def test_a_broken_answer_is_no_verdict(self, behaviour: Behaviour) -> None:
        assert (await verdict(behaviour)).startswith("unavailable: ")

    @pytest.mark.parametrize("behaviour", [hangs, drips])
    async def test_a_whole_call_is_bounded_in_time(self, behaviour: Behaviour) -> None:
        assert (await verdict(behaviour, timeout=SHORT)).endswith(" gave no complete answer within 0.3 s")

    async def test_a_key_that_fits_no_header_is_no_traceback(self) -> None:
        receipt = answers(200, {"payment_id": "P"})
        async with misbehaving(receipt) as server, aclosing(HttpPayments(server.url)) as payments:
            for key in ["two\nlines", "ключ"]:
                said = await asked(payments, orders(idempotency_key=key)[0])
                assert said.startswith("unavailable: the payment gateway at ")
        assert server.requests == []


def _receipt(request: Request) -> dict[str, str]:
    return {"payment_id": f"P-{request.json()['line']}"}


class TestWhoseAnswerItIs:
    @requirement("PORT-ANSWER")
    @pytest.mark.parametrize("is_own", [True, False], ids=["own client", "passed-in client"])
    async def test_an_answer_that_arrives_twice_is_not_taken_for_the_next_payments(self, is_own: bool) -> None:
        async with (
            misbehaving(answers_twice(_receipt), keeps_alive=True) as server,
            httpx2.AsyncClient() as client,
            aclosing(HttpPayments(server.url, client=None if is_own else client)) as payments,
        ):
            assert [await asked(payments, order) for order in orders(3)] == ["P-1", "P-2", "P-3"]
        assert [request.connection for request in server.requests] == [1, 2, 3]

    @requirement("PORT-ANSWER")
    @pytest.mark.parametrize(
        "echo",
        [
            {"idempotency_key": "another"},
            {"amount": "99.51"},
            {"amount": 99.51},
            {"amount": 9950},
            {"amount": "\u0669\u0669.50"},
            {"amount": "9_9.50"},
            {"amount": True},
            {"amount": {"value": "99.50"}},
            {"amount": json.loads("[" * 900 + "]" * 900)},
            {"amount": "99,50"},
            {"amount": "1E+999999999999999999999"},
            {"amount": float("inf")},
            {"currency": "USD"},
            {"invoice_id": "INV-2"},
            {"line": 2},
            {"line": True},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("status", [200, 422])
    async def test_an_answer_that_speaks_of_something_else_is_no_verdict(
        self, status: int, echo: dict[str, Any]
    ) -> None:
        said = await verdict(answers(status, {"payment_id": "P", "code": "NO", **echo}))
        assert said.startswith("unavailable: the payment gateway at ")
        assert f" gave an answer for something else: its {next(iter(echo))} is " in said

    @requirement("PORT-ANSWER")
    @pytest.mark.parametrize("status", [200, 402])
    async def test_the_key_is_echoed_in_a_header_as_well(self, status: int) -> None:
        (order,) = orders()
        receipt = {"payment_id": "P"}
        said = await verdict(answers(status, receipt, Idempotency_Key="another"))
        assert (
            f" gave an answer for something else: its Idempotency-Key is another, not {order.idempotency_key}" in said
        )
        right = await verdict(answers(status, receipt, Idempotency_Key=order.idempotency_key))
        assert not right.startswith("unavailable")

    @pytest.mark.parametrize("amount", ["99.50", "99.5", 99.5, "0099.500"])
    async def test_an_answer_that_speaks_of_what_was_asked_is_a_verdict(self, amount: object) -> None:
        (order,) = orders()
        echo = {**order.model_dump(mode="json"), "amount": amount, "payment_id": "P", "description": "anything"}
        assert await verdict(answers(200, echo)) == "P"
        assert await verdict(answers(200, {**echo, "line": "1", "currency": None})) == "P"
        assert await verdict(answers(422, {**echo, "code": "NO", "reason": "no"})) == "NO: no"

    async def test_a_json_number_is_the_amount_that_it_is_nearest_to(self) -> None:
        (order,) = orders(amount=Decimal("0.10"))
        receipt = answers(200, {"payment_id": "P", "amount": 0.1})
        async with misbehaving(receipt) as server, aclosing(HttpPayments(server.url)) as payments:
            assert await asked(payments, order) == "P"

    @requirement("PORT-ANSWER")
    async def test_accepted_is_not_paid(self) -> None:
        said = await verdict(answers(202, {"payment_id": "P"}))
        assert said.startswith("unavailable: the payment gateway at ")
        assert said.endswith(" answered 202: it was accepted, and is not done yet")
