"""The embedded payment system: a ledger in a SQLite file, with the idempotency key as its primary key."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, TypeVar

from invoice_mcp.adapters.payments import PaymentRefusedError, PaymentUnavailableError
from invoice_mcp.domain.display_text import printable
from invoice_mcp.domain.report import PaymentOrder, PaymentReceipt, Record

T = TypeVar("T")

_APPLICATION_ID = 0x494D4350  # "IMCP", in the file's header: tells our ledger from another program's database
_SCHEMA = """
CREATE TABLE payments (
    idempotency_key TEXT PRIMARY KEY NOT NULL,
    payment_id TEXT UNIQUE NOT NULL,
    invoice_id TEXT NOT NULL,
    line INTEGER NOT NULL,
    description TEXT NOT NULL,
    amount TEXT NOT NULL, -- text, as SQLite's numbers are floats
    currency TEXT NOT NULL,
    paid_at TEXT NOT NULL
)
"""
# PRAGMA user_version. 0 is release 0.1.0, which had the table of payments only; it can still use a file of version 1.
_VERSION = 1
_SINCE_0_1_0 = (
    # One row, with the fields of `LedgerIdentity`; NULL for None.
    "CREATE TABLE ledger (id TEXT NOT NULL, temporal TEXT, complete_since TEXT)",
    # Not UNIQUE: a ledger of 0.1.0 may hold two payments of one line.
    "CREATE INDEX payments_by_line ON payments (invoice_id, line)",
)
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_CREATING = threading.Lock()


class LedgerEntry(Record):
    """One payment. `amount` is in `currency`, `paid_at` in UTC."""

    idempotency_key: str
    payment_id: str
    invoice_id: str
    line: int
    description: str
    amount: Decimal
    currency: str
    paid_at: datetime


class LedgerIdentity(NamedTuple):
    """Identity of a ledger file.

    Attributes:
        id: Created with the file.
        temporal: Id of the Temporal namespace it is bound to; None if it is not bound.
        complete_since: Time (UTC) since when it has all payments; a loss before that was accepted. None: it has all.
        payments: Number of payments.
    """

    id: str
    temporal: str | None
    complete_since: datetime | None
    payments: int


class PaymentLedger:
    """A payment system for tests and demos: one SQLite file, safe for concurrent tasks, threads and processes.

    The same key with another amount or currency is refused with the code IDEMPOTENCY_CONFLICT. A line of an invoice is
    paid once: under another key it is refused with the code LINE_ALREADY_PAID.

    After it has opened its file once, it pays into that ledger only: if the file is gone or replaced, it pays nothing.

    Args:
        path: The file. Created with its directory, both for their owner only, at `bind` or at the first payment.
        refuse: Refuse new payments, with the code INSUFFICIENT_FUNDS.
        patience: Seconds to retry while other connections lock the file.
    """

    def __init__(self, path: Path, *, refuse: bool = False, patience: float = 5.0) -> None:
        self._path = path
        self._refuse = refuse
        self._patience = patience
        self._id: str | None = None  # of the ledger in the file when it was last opened

    async def pay(self, order: PaymentOrder) -> PaymentReceipt:
        """As `Payments.pay`."""
        return await asyncio.to_thread(self._guarded, lambda: self._pay(order))

    async def entries(self) -> tuple[LedgerEntry, ...]:
        """Every payment, oldest first. Does not create the file.

        Raises:
            PaymentUnavailableError: The file can't be read, or is no ledger.
        """
        return await asyncio.to_thread(self._guarded, self._entries)

    async def identity(self) -> LedgerIdentity | None:
        """Identity of the ledger; None if there is no file yet. Does not create the file.

        Raises:
            PaymentUnavailableError: The file can't be read, or is no ledger.
        """
        return await asyncio.to_thread(self._guarded, self._identity)

    async def bind(self, temporal: str, *, complete_since: datetime | None = None) -> str:
        """Store the id of the Temporal namespace that this ledger pays for. Creates the file if there is none.

        Args:
            complete_since: Accept that payments before this time may be missing. None: leave this unchanged.

        Returns:
            The ledger's own id.

        Raises:
            PaymentUnavailableError: The file can't be written, or is no ledger.
        """
        return await asyncio.to_thread(self._guarded, lambda: self._bind(temporal, complete_since))

    async def holds(self, payment_id: str) -> bool:
        """Whether the ledger has this payment. Does not create the file.

        Raises:
            PaymentUnavailableError: The file can't be read, or is no ledger.
        """
        return await asyncio.to_thread(self._guarded, lambda: self._holds(payment_id))

    def _guarded(self, call: Callable[[], T]) -> T:
        """Retry for up to `patience` while others lock the file. Translate errors to PaymentUnavailableError."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return call()
            except (PaymentRefusedError, PaymentUnavailableError):
                raise
            except Exception as error:
                # SQLite's busy timeout covers neither the switch to WAL nor the checkpoint at the last close.
                code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
                if code not in _BUSY or time.monotonic() >= deadline:
                    raise PaymentUnavailableError(
                        f"the payment ledger {self._path}: {printable(str(error))}"
                    ) from error
            time.sleep(0.005)

    def _pay(self, order: PaymentOrder) -> PaymentReceipt:
        self._create()
        with self._open() as ledger, ledger:
            # The write lock comes first: no other payment can be made between the check and the insert.
            ledger.execute("BEGIN IMMEDIATE")
            made = ledger.execute(
                "SELECT payment_id, amount, currency FROM payments WHERE idempotency_key = ?", (order.idempotency_key,)
            ).fetchone()
            if made is not None:
                payment_id, amount, currency = made
                if (Decimal(amount), currency) != (order.amount, order.currency):
                    conflict = f"paid as {currency} {amount}; it can't be paid as {order.currency} {order.amount}"
                    raise PaymentRefusedError("IDEMPOTENCY_CONFLICT", f"this payment was already {conflict}")
                return PaymentReceipt(payment_id=payment_id)
            paid = ledger.execute(
                "SELECT payment_id, amount, currency FROM payments WHERE invoice_id = ? AND line = ?",
                (order.invoice_id, order.line),
            ).fetchone()
            if paid is not None:
                # The workflow may not know of it: the line was changed after the earlier payment was lost there.
                payment_id, amount, currency = paid
                what = f"line {order.line} of invoice {order.invoice_id} was already paid, with other content"
                raise PaymentRefusedError(
                    "LINE_ALREADY_PAID", f"{what}: {currency} {amount} as {payment_id}. It is not paid again"
                )
            if self._refuse:
                raise PaymentRefusedError("INSUFFICIENT_FUNDS", "the account does not cover this payment")
            payment_id = _payment_id(order)
            entry = (order.idempotency_key, payment_id, order.invoice_id, order.line, order.description)
            money = (format(order.amount, "f"), order.currency, datetime.now(UTC).isoformat())
            ledger.execute("INSERT INTO payments VALUES (?, ?, ?, ?, ?, ?, ?, ?)", entry + money)
            return PaymentReceipt(payment_id=payment_id)

    def _entries(self) -> tuple[LedgerEntry, ...]:
        if not self._path.exists():
            return ()
        with self._open() as ledger:
            ledger.row_factory = sqlite3.Row
            rows = ledger.execute("SELECT * FROM payments ORDER BY rowid").fetchall()
        return tuple(LedgerEntry.model_validate(dict(row)) for row in rows)

    def _identity(self) -> LedgerIdentity | None:
        if not self._path.exists():
            return None
        with self._open() as ledger:
            own, temporal, since = ledger.execute("SELECT id, temporal, complete_since FROM ledger").fetchone()
            payments = ledger.execute("SELECT count(*) FROM payments").fetchone()[0]
            return LedgerIdentity(own, temporal, datetime.fromisoformat(since) if since else None, payments)

    def _bind(self, temporal: str, complete_since: datetime | None) -> str:
        self._create()
        with self._open() as ledger:
            since = complete_since.astimezone(UTC).isoformat() if complete_since is not None else None
            ledger.execute(
                "UPDATE ledger SET temporal = ?, complete_since = ifnull(?, complete_since)", (temporal, since)
            )
            return str(ledger.execute("SELECT id FROM ledger").fetchone()[0])

    def _holds(self, payment_id: str) -> bool:
        if not self._path.exists():
            return False
        with self._open() as ledger:
            found = ledger.execute("SELECT 1 FROM payments WHERE payment_id = ?", (payment_id,)).fetchone()
            return found is not None

    def _create(self) -> None:
        """Create the file, unless this object has opened one before."""
        if self._id is None:
            _create_privately(self._path)
        elif not self._path.exists():
            raise PaymentUnavailableError(f"the payment ledger {self._path} is gone, and what it has paid is not known")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # mode=rw: SQLite would create the file readable by everybody. A short busy timeout: `_guarded` retries.
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=self._patience / 4, isolation_level=None)) as ledger:
            if _application_id(ledger) != _APPLICATION_ID:
                self._claim(ledger)
            if _version(ledger) != _VERSION:
                self._migrate(ledger)
            ledger.execute("PRAGMA journal_mode = WAL")
            # A payment must survive a power failure once `pay` has returned.
            ledger.execute("PRAGMA synchronous = FULL")
            self._recognize(ledger)
            yield ledger

    def _claim(self, file: sqlite3.Connection) -> None:
        """Create the ledger in an empty file. Refuses another program's database."""
        with file:
            file.execute("BEGIN IMMEDIATE")
            found = _application_id(file)
            if found == _APPLICATION_ID:
                # Another connection was faster.
                return
            if found or file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise PaymentUnavailableError(f"{self._path} is another program's database, not a payment ledger")
            file.execute(_SCHEMA)
            file.execute(f"PRAGMA application_id = {_APPLICATION_ID}")

    def _migrate(self, file: sqlite3.Connection) -> None:
        """Upgrade a ledger of release 0.1.0. Its payments are unchanged."""
        with file:
            file.execute("BEGIN IMMEDIATE")
            found = _version(file)
            if found > _VERSION:
                raise PaymentUnavailableError(f"the payment ledger {self._path} is of a newer release than this one")
            if found == _VERSION:
                # Another connection was faster.
                return
            for statement in _SINCE_0_1_0:
                file.execute(statement)
            file.execute("INSERT INTO ledger (id) VALUES (?)", (uuid.uuid4().hex,))
            file.execute(f"PRAGMA user_version = {_VERSION}")

    def _recognize(self, file: sqlite3.Connection) -> None:
        (found,) = file.execute("SELECT id FROM ledger").fetchone()
        if self._id is not None and self._id != found:
            raise PaymentUnavailableError(f"the payment ledger {self._path} was replaced by another one: restart")
        self._id = found


def _application_id(file: sqlite3.Connection) -> int:
    return int(file.execute("PRAGMA application_id").fetchone()[0])


def _version(file: sqlite3.Connection) -> int:
    return int(file.execute("PRAGMA user_version").fetchone()[0])


def _create_privately(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Closing any descriptor of a file releases all POSIX locks of this process on it, also SQLite's. So a new file must
    # be closed here before another thread can open it.
    with _CREATING, suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _payment_id(order: PaymentOrder) -> str:
    return f"PAY-{order.invoice_id}-{order.line}-{hashlib.sha256(order.idempotency_key.encode()).hexdigest()[:10]}"
