"""Consistent online backup of the embedded state."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from invoice_mcp.adapters.settings import ledger_path
from invoice_mcp.service.state_binding import database_path

_BUSY_TIMEOUT = 10.0  # seconds that SQLite waits for the locks of other processes


class BackupError(Exception):
    """The backup failed. The message says why."""


def back_up(home: Path, directory: Path) -> tuple[str, ...]:
    """Copy the databases under `home` into a new directory, for this user only. They may be in use.

    Returns:
        The names of the copies.

    Raises:
        BackupError: There is no database, the directory exists, or a copy fails or is damaged. No directory is left.
    """
    if not database_path(home).exists():
        raise BackupError(
            f"There is nothing to back up: {database_path(home)} does not exist. Look at INVOICE_MCP_HOME"
        )
    if os.path.lexists(directory):
        raise BackupError(f"{directory} exists already, and nothing is overwritten. Name a new directory")
    # Temporal first. Temporal does not know of a payment that is made in between, requests it again with the same key,
    # and gets the same payment. In the other order, Temporal would know of a payment that the ledger does not hold,
    # and requesting it again would pay a second time.
    sources = [path for path in (database_path(home), ledger_path(home)) if path.exists()]
    try:
        # The parent must exist: creating it could create a directory in place of a disk that is not mounted.
        draft = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    except OSError as error:
        raise BackupError(f"Nothing can be written to {directory.parent}: {error.strerror}") from None
    try:
        for source in sources:
            copy_database(source, draft / source.name)
        draft.rename(directory)
    except OSError as error:
        raise BackupError(f"{directory} can't be written: {error.strerror}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return tuple(source.name for source in sources)


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite database, including its write-ahead log, and check the copy.

    The copy is a single file, readable by its owner only.

    Raises:
        BackupError: The copy fails or is damaged.
        OSError: The target can't be created.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with closing(_opened(source)) as live, closing(_opened(target)) as copy:
            # One step, hence a consistent snapshot. Writers are not blocked: they write to the write-ahead log.
            live.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            found = [fault for (fault,) in copy.execute("PRAGMA integrity_check")]
    except sqlite3.Error as error:
        raise BackupError(f"{source} can't be copied: {error}") from None
    if found != ["ok"]:
        raise BackupError(f"{source} is damaged, or its copy is: {found[0]}")


def _opened(path: Path) -> sqlite3.Connection:
    # Nothing is written to a source. Not mode=ro: a read-only connection would leave an empty log file behind.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None)
