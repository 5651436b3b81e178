"""The `backup` command."""

# Slow imports are inside the command, so that --help is fast.

from __future__ import annotations

from pathlib import Path

import click

from invoice_mcp.output import print_output

_DESCRIPTIONS = {
    "temporal.db": "Temporal's database: invoices, decisions and results",
    "payments.db": "the embedded payment ledger: all payments",
}
_NO_LEDGER = """
There is no payments.db under {home}, so the backup has none. That is
correct if a real gateway pays, or if nothing was paid yet. Otherwise the ledger
is lost."""
_RESTORE = """
Restore all files of the backup, or none:
  1. Stop every invoice-mcp that uses {home}.
  2. Move away temporal.db, payments.db, their -wal and -shm files, and
     temporal.id. A write-ahead log that is left would corrupt the restored files.
  3. Copy all files of the backup there, and start invoice-mcp."""


@click.command(short_help="Copy local state while it is in use.")
@click.argument("directory", type=click.Path(path_type=Path))
def backup(directory: Path) -> None:
    """Copy all local state into DIRECTORY, a new directory, while servers and workers run.

    Local state is the data of the embedded Temporal and of the embedded payment ledger under INVOICE_MCP_HOME. The
    copies are consistent with each other, checked, and readable only to you.

    \b
    Exit status: 0 everything is copied, 1 it is not; no partial copy is left.
    """
    from invoice_mcp.domain.errors import ConfigurationError
    from invoice_mcp.service.backup import BackupError, back_up
    from invoice_mcp.temporal.home import default_home

    try:
        home = default_home()
        written = back_up(home, directory)
    except (BackupError, ConfigurationError) as error:
        raise click.ClickException(str(error)) from None
    lines = [f"Copied to {directory} and checked:", *(f"  {name}  {_DESCRIPTIONS[name]}" for name in written)]
    lines += [] if "payments.db" in written else [_NO_LEDGER.format(home=home)]
    print_output(lambda: "\n".join([*lines, _RESTORE.format(home=home)]))
