"""The backup: both databases as they are while they are used, and what comes of them in another home."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from invoice_mcp.adapters.ledger import PaymentLedger
from invoice_mcp.adapters.settings import ledger_path
from invoice_mcp.cli.main import main
from invoice_mcp.domain.errors import ConfigurationError
from invoice_mcp.service import backup
from invoice_mcp.service.backup import BackupError, back_up, copy_database
from invoice_mcp.service.state_binding import require_database
from tests.requirements import requirement
from tests.unit.test_state_binding import bound, order, pay, refusal, temporal


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def restored(files: dict[str, Path], home: Path) -> Path:
    """A home with copies of these files."""
    home.mkdir()
    for name, file in files.items():
        shutil.copy(file, home / name)
    return home


@requirement("STATE-BACKUP", "STATE-LOST")
async def test_copies_taken_while_payments_are_made_are_safe_in_their_order_only(home: Path, tmp_path: Path) -> None:
    async with temporal(home) as client:
        ledger = await bound(client, home)
        await pay(client, ledger, 1)
        copy_database(ledger_path(home), tmp_path / "ledger-before")
        copy_database(home / "temporal.db", tmp_path / "temporal-before")
        await pay(client, ledger, 2)
        copy_database(ledger_path(home), tmp_path / "ledger-after")
        copy_database(home / "temporal.db", tmp_path / "temporal-after")
        paid = [entry.payment_id for entry in await ledger.entries()]

    # Temporal's first: it asks again for what was paid in between, and gets the same.
    pair = {"temporal.db": tmp_path / "temporal-before", "payments.db": tmp_path / "ledger-after"}
    other = restored(pair, tmp_path / "good")
    async with temporal(other) as client:
        ledger = await bound(client, other)
        await pay(client, ledger, 2)
        assert [entry.payment_id for entry in await ledger.entries()] == paid

    # The ledger's first: it lacks what Temporal knows. So does no ledger at all.
    pair = {"temporal.db": tmp_path / "temporal-after", "payments.db": tmp_path / "ledger-before"}
    other = restored(pair, tmp_path / "bad")
    async with temporal(other) as client:
        told = await refusal(client, other, PaymentLedger(ledger_path(other)))
        assert "payments.db is missing, or knows less than" in told
        ledger_path(other).unlink()
        assert await refusal(client, other, PaymentLedger(ledger_path(other))) == told

    # Nor is a ledger without Temporal begun with.
    other = restored({"payments.db": tmp_path / "ledger-after"}, tmp_path / "half")
    with pytest.raises(ConfigurationError, match=r"temporal\.db is missing, or another one"):
        await require_database(other)


@requirement("STATE-BACKUP")
def test_temporals_database_is_copied_before_the_ledger(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    for name in ("payments.db", "temporal.db"):
        (home / name).touch()
    copied: list[str] = []
    monkeypatch.setattr(backup, "copy_database", lambda source, _target: copied.append(source.name))
    assert back_up(home, tmp_path / "copy") == ("temporal.db", "payments.db")
    assert copied == ["temporal.db", "payments.db"]


def write_only_to_the_log(file: Path) -> sqlite3.Connection:
    """A database in use, with all that it holds in its write-ahead log."""
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE numbers (n)")
    db.executemany("INSERT INTO numbers VALUES (?)", [(n,) for n in range(100)])
    return db


@requirement("STATE-BACKUP")
def test_what_only_the_write_ahead_log_holds_is_copied_and_a_plain_copy_lacks_it(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    with closing(write_only_to_the_log(home / "temporal.db")) as used:
        used.execute("BEGIN IMMEDIATE")  # whoever writes just now is not waited for
        assert back_up(home, tmp_path / "copy") == ("temporal.db",)
        shutil.copy(home / "temporal.db", tmp_path / "plain.db")
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["temporal.db"]
    with closing(sqlite3.connect(tmp_path / "copy" / "temporal.db")) as db:
        assert db.execute("SELECT count(*) FROM numbers").fetchone() == (100,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    with closing(sqlite3.connect(tmp_path / "plain.db")) as db, pytest.raises(sqlite3.OperationalError):
        db.execute("SELECT count(*) FROM numbers")


@requirement("STATE-BACKUP")
async def test_a_backup_is_private_and_says_how_to_restore(home: Path, tmp_path: Path) -> None:
    await PaymentLedger(ledger_path(home)).pay(order(1))
    write_only_to_the_log(home / "temporal.db").close()
    copy = tmp_path / "copy"
    told = CliRunner().invoke(main, ["backup", str(copy)])
    assert told.exit_code == 0, told.output
    for words in (str(copy), "temporal.db", "payments.db", "-wal", "temporal.id", "Stop every invoice-mcp", str(home)):
        assert words in told.output
    assert "There is no payments.db" not in told.output
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (copy, *copy.iterdir())}
    assert modes == {"copy": 0o700, "temporal.db": 0o600, "payments.db": 0o600}
    assert len(await PaymentLedger(copy / "payments.db").entries()) == 1
    assert sorted(path.name for path in home.iterdir()) == ["payments.db", "temporal.db"]

    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    again = CliRunner().invoke(main, ["backup", str(copy)])
    assert again.exit_code == 1
    assert f"{copy} exists already" in again.output
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_a_backup_without_a_ledger_says_so(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    write_only_to_the_log(home / "temporal.db").close()
    told = CliRunner().invoke(main, ["backup", str(tmp_path / "copy")])
    assert told.exit_code == 0
    assert "There is no payments.db" in told.output


def _damage(file: Path) -> None:
    with closing(write_only_to_the_log(file)) as db:
        db.execute("INSERT INTO numbers VALUES (NULL)")
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = 'CREATE TABLE numbers (n NOT NULL)'")


@requirement("STATE-BACKUP")
def test_what_can_not_be_backed_up_is_told_and_leaves_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(target: Path) -> str:
        before = sorted(tmp_path.iterdir())
        with pytest.raises(BackupError) as refusal:
            back_up(home, target)
        assert sorted(tmp_path.iterdir()) == before
        return str(refusal.value)

    assert "There is nothing to back up" in refused(tmp_path / "copy")
    home.mkdir()
    database = home / "temporal.db"
    database.write_bytes(b"no database" * 1000)
    assert refused(tmp_path / "copy") == f"{database} can't be copied: file is not a database"
    database.unlink()
    _damage(database)
    assert f"{database} is damaged" in refused(tmp_path / "copy")
    assert "Nothing can be written to" in refused(tmp_path / "unmounted" / "copy")
    # Somebody else makes the same directory meanwhile.
    database.unlink()
    write_only_to_the_log(database).close()
    target = tmp_path / "copy"
    target.mkdir()
    (target / "theirs").touch()
    monkeypatch.setattr("os.path.lexists", lambda _path: False)
    assert "can't be written" in refused(target)
    assert [path.name for path in target.iterdir()] == ["theirs"]
