"""The command line: serve, worker, demo; `backup`, `histories` and `simulate` are in modules of their own."""

# Temporal and MCP take a second to import: each command imports what it needs, so that --help answers at once.
# ruff: noqa: PLC0415

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from invoice_mcp import __version__
from invoice_mcp.cli.options import (
    EPILOG,
    allowed_host_option,
    duration,
    embedded_option,
    embedded_temporal_options,
    fail_options,
    lost_state_option,
    real_ports,
    refuse,
    temporal_options,
    timeout_option,
    tool_prefix_option,
    verbose_option,
)

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from invoice_mcp.adapters.settings import PortSettings
    from invoice_mcp.cli.backend import BackendSource
    from invoice_mcp.server.tool_names import ToolNames
    from invoice_mcp.server.transport.http_hosts import Authority
    from invoice_mcp.temporal.connection import TemporalSettings

T = TypeVar("T")


class Common(NamedTuple):
    """The options that every command has."""

    temporal: TemporalSettings
    ports: PortSettings


class _Lazy(click.Group):
    """Imports the commands that lie elsewhere when they are asked for."""

    _elsewhere = MappingProxyType(
        {
            "backup": "invoice_mcp.cli.backup",
            "chaos": "invoice_mcp.cli.chaos",
            "histories": "invoice_mcp.cli.histories",
            "simulate": "invoice_mcp.cli.simulate",
        }
    )

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            sys.exit(130)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._elsewhere])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._elsewhere:
            command: click.Command = getattr(import_module(self._elsewhere[cmd_name]), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Try it:                 invoice-mcp demo
Let thousands live:     invoice-mcp simulate
Connect Claude Code:    claude mcp add invoices -- invoice-mcp serve
Use a Temporal cluster: TEMPORAL_ADDRESS=host:7233 invoice-mcp serve --no-worker""",
)
@click.version_option(__version__, prog_name="invoice-mcp")
def main() -> None:
    """Invoices with human approval, for MCP hosts, kept by Temporal.

    An agent submits an invoice; it is checked against the ERP, waits up to five days for a person's approval, and is
    paid line by line on the due dates. Everything survives crashes and restarts.
    """


@main.command(epilog=EPILOG)
@click.option("--http", is_flag=True, help="Serve streamable HTTP at /mcp instead of stdin and stdout.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --http: where to listen.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="With --http.")
@allowed_host_option
@click.option(
    "--no-sessions",
    is_flag=True,
    help="With --http: for several servers behind one address. Clients of a protocol before 2026-07-28 have no session"
    " then, and can't be asked to confirm an approval.",
)
@click.option("--no-worker", is_flag=True, help="Serve only; `invoice-mcp worker` does the work elsewhere.")
@tool_prefix_option
@timeout_option
@click.option(
    "--approval",
    type=click.Choice(["ask", "trust", "ask-or-refuse"]),
    default=None,
    help="What an approval needs: where the client shows forms, one answered with yes, else the client is taken at its "
    "word (ask); nothing (trust); always a form answered with yes (ask-or-refuse).  [default: ask where Temporal, ERP "
    "and gateway are all the embedded ones; else ask-or-refuse]",
)
@temporal_options
@embedded_temporal_options
@real_ports
@embedded_option
@lost_state_option
@fail_options
@verbose_option
@click.pass_context
def serve(
    ctx: click.Context,
    /,
    *,
    http: bool,
    host: str,
    port: int,
    allowed_hosts: tuple[Authority, ...],
    no_sessions: bool,
    no_worker: bool,
    names: ToolNames,
    approval_timeout: timedelta,
    approval: str | None,
    **options: Any,
) -> None:
    """Serve the MCP tools to a host: on stdin and stdout, or over HTTP.

    Hosts start this by themselves. Several may at once: they share one embedded Temporal, and the same invoices.
    """
    with _without_collector():
        from invoice_mcp.cli.serve import serve as run_server

    if not http:
        refuse(ctx, "Without --http nothing listens", "host", "port", "allowed_hosts", "no_sessions")
    if no_worker:
        refuse(ctx, "With --no-worker this server does no work", "allow_embedded", "fail_validate", "fail_payment")
    settings = _settings(**options)

    def load() -> BackendSource:
        from invoice_mcp.cli.backend import BackendSource
        from invoice_mcp.server.confirmation import ApprovalPolicy

        common = settings()
        policy = ApprovalPolicy(approval) if approval else None
        return BackendSource(common.temporal, common.ports, approval_timeout, policy, with_worker=not no_worker)

    over_http = None
    if http:
        from invoice_mcp.server.transport.http import HttpSettings

        over_http = HttpSettings(host, port, allowed_hosts, sessions=not no_sessions)
    _run(run_server(load, http=over_http, names=names))


@main.command(epilog=EPILOG)
@temporal_options
@embedded_temporal_options
@real_ports
@embedded_option
@lost_state_option
@fail_options
@verbose_option
def worker(**options: Any) -> None:
    """Run a worker: it validates and pays. Start as many as you like; stop with Ctrl-C or SIGTERM."""
    from invoice_mcp.cli.backend import work

    common = _settings(**options)()
    _run(work(common.temporal, common.ports))


@main.command()
@click.option("--reject", is_flag=True, help="Play the ending where it is rejected.")
@click.option("--expire", is_flag=True, help="Play the ending where nobody decides.")
@click.option(
    "--approval-timeout",
    callback=duration,
    metavar="DURATION",
    default=None,
    help="How long the invoice waits.  [default: 5d; with --expire 3s]",
)
@fail_options
def demo(
    *, reject: bool, expire: bool, approval_timeout: timedelta | None, fail_validate: bool, fail_payment: bool
) -> None:
    """Watch one invoice go through, from submission to payment.

    Starts an embedded Temporal, a worker and the MCP server, then talks to it as a real MCP client with tasks: submits
    the sample invoice, answers the form that asks for its approval, follows it to PAID and shows the ledger. Nothing is
    left behind.

    Exits with 0 only if the invoice ended as it should: PAID, or as --reject or --expire asked for.
    """
    from rich.console import Console

    from invoice_mcp.cli.demo import Ending, play
    from invoice_mcp.output import lasting, require_written

    if reject and expire:
        raise click.UsageError("It has one ending: --reject or --expire, not both.")
    played = play(
        Ending.REJECTED if reject else Ending.EXPIRED if expire else Ending.PAID,
        told_on(Console(file=lasting(sys.stdout), highlight=False)),
        home=_home(),
        approval_timeout=approval_timeout,
        fail_validate=fail_validate,
        fail_payment=fail_payment,
    )
    status = 0 if _run(played) else 1
    require_written(sys.stdout)
    sys.exit(status)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Import without the garbage collector: there is no garbage, and a tenth of the time goes into looking for some."""
    if "mcp" in sys.modules:
        # In a process that did other things before, there may be.
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _settings(
    *,
    address: str | None,
    namespace: str | None,
    profile: str | None,
    ui: bool,
    accepts_risk: bool,
    erp_url: str | None,
    payments_url: str | None,
    allow_embedded: bool,
    accept_lost_state: bool,
    fail_validate: bool,
    fail_payment: bool,
    verbose: bool,
) -> Callable[[], Common]:
    """What gives the options that every command has, called once: it imports Temporal's client, which takes long."""
    from invoice_mcp.cli.logs import log_to_stderr

    log_to_stderr(verbose=verbose)
    if (fail_validate and erp_url) or (fail_payment and payments_url):
        raise click.UsageError(
            "--fail-validate and --fail-payment are for the embedded ERP and gateway, not for a real one."
        )
    home = _home()

    def settings() -> Common:
        from invoice_mcp.adapters.settings import PortSettings
        from invoice_mcp.temporal.connection import TemporalSettings, log_through_python

        log_through_python()
        return Common(
            TemporalSettings(
                address=address, namespace=namespace, profile=profile, home=home, ui=ui, accepts_risk=accepts_risk
            ),
            PortSettings(
                home=home,
                erp_url=erp_url,
                payments_url=payments_url,
                allow_embedded=allow_embedded,
                accept_lost_state=accept_lost_state,
                fail_validate=fail_validate,
                fail_payment=fail_payment,
            ),
        )

    return settings


def _home() -> Path:
    from invoice_mcp.domain.errors import ConfigurationError
    from invoice_mcp.temporal.home import default_home

    try:
        return default_home()
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None


def _run(main: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(main)
    except _told_without_traceback() as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(130)


def told_on(console: Console) -> Console:
    """Lines as they are, where nobody's terminal would wrap them."""
    if not console.is_terminal:
        console.soft_wrap = True
    return console


def _told_without_traceback() -> tuple[type[Exception], ...]:
    from invoice_mcp.domain.errors import ConfigurationError
    from invoice_mcp.temporal.embedded import EmbeddedUnavailable

    return ConfigurationError, EmbeddedUnavailable
