"""A copy of the embedded state that belongs together, made while it is in use."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from invoice_mcp.adapters.settings import ledger_path
from invoice_mcp.service.state_binding import database_path

_PATIENCE = 10.0  # seconds that SQLite waits where others hold a file


class BackupError(Exception):
    """There is no backup. The message says why."""


def back_up(home: Path, directory: Path) -> tuple[str, ...]:
    """Copy what is under `home` into a new directory, for this user only; others may go on working with it.

    Returns:
        The names of the copies.

    Raises:
        BackupError: Nothing is there, the directory exists, or a copy can't be made or is damaged: nothing is left.
    """
    if not database_path(home).exists():
        raise BackupError(
            f"There is nothing to back up: {database_path(home)} does not exist. Look at INVOICE_MCP_HOME"
        )
    if os.path.lexists(directory):
        raise BackupError(f"{directory} exists already, and nothing is overwritten. Name a new directory")
    # Temporal first. A payment that is made in between is in the ledger and not yet known to Temporal, which asks for
    # it again with the same key and gets the same payment. The other way round, Temporal would know of a payment that
    # the ledger does not hold, and whoever asked for it again would have it made a second time.
    sources = [path for path in (database_path(home), ledger_path(home)) if path.exists()]
    try:
        # A disk that is not mounted must not turn into a directory here: the parent is there or it is not.
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
    """Copy a SQLite database as it is at this moment, with what only its write-ahead log holds yet, and check the copy.

    The copy is one file that is complete by itself, readable to its owner only.

    Raises:
        BackupError: It can't be copied, or the copy is damaged.
        OSError: The target can't be made.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with closing(_opened(source)) as live, closing(_opened(target)) as copy:
            # One step, so of one moment. Whoever writes meanwhile is not held up: that goes to the write-ahead log.
            live.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            found = [fault for (fault,) in copy.execute("PRAGMA integrity_check")]
    except sqlite3.Error as error:
        raise BackupError(f"{source} can't be copied: {error}") from None
    if found != ["ok"]:
        raise BackupError(f"{source} is damaged, or its copy is: {found[0]}")


def _opened(path: Path) -> sqlite3.Connection:
    # Nothing is written to a source. But whoever may only read leaves an empty log behind, if nobody else is there.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)
