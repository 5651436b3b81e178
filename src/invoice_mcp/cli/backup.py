"""The command line's `backup`."""

# As in main.py: the command imports what it needs.
# ruff: noqa: PLC0415

from __future__ import annotations

from pathlib import Path

import click

from invoice_mcp.output import print_output

_DESCRIPTIONS = {
    "temporal.db": "Temporal's database: the invoices, their decisions and what became of them",
    "payments.db": "the embedded payment ledger: what was paid",
}
_NO_LEDGER = """
There is no payments.db under {home}, so there is none in the backup. That is
right where a real gateway pays, or nothing was paid yet. Else it is lost."""
_RESTORE = """
Both belong together; restore both or none:
  1. Stop every invoice-mcp that uses {home}.
  2. Move away what is left there of temporal.db, payments.db, their -wal and -shm
     files, and temporal.id. A log that is left behind would spoil what you restore.
  3. Copy the files of the backup there, all of them, and start again."""


@click.command(short_help="Copy local state, while it is in use.")
@click.argument("directory", type=click.Path(path_type=Path))
def backup(directory: Path) -> None:
    """Copy all local state into DIRECTORY, which must not exist yet, while servers and workers go on.

    Local state is what the embedded Temporal and the embedded payment ledger keep under INVOICE_MCP_HOME. The copies
    are checked, belong together, and are readable to you only.

    Exits with 0 only if all is copied; else nothing is left of the copy.
    """
    from invoice_mcp.domain.errors import ConfigurationError
    from invoice_mcp.service.backup import BackupError, back_up
    from invoice_mcp.temporal.home import default_home

    try:
        home = default_home()
        written = back_up(home, directory)
    except (BackupError, ConfigurationError) as error:
        raise click.ClickException(str(error)) from None
    lines = [f"Copied and checked, in {directory}:", *(f"  {name}  {_DESCRIPTIONS[name]}" for name in written)]
    lines += [] if "payments.db" in written else [_NO_LEDGER.format(home=home)]
    print_output(lambda: "\n".join([*lines, _RESTORE.format(home=home)]))
