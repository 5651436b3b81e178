"""The command line: the group, and the commands `serve`, `worker` and `demo`; other commands have their own modules."""

# Temporal and MCP take a second to import: each command imports them when it runs, so that --help is fast.

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
from invoice_mcp.cli.console import disable_wrapping
from invoice_mcp.cli.options import (
    DEFAULT_APPROVAL_TIMEOUT,
    EPILOG,
    allowed_host_option,
    approval_option,
    duration,
    embedded_option,
    embedded_temporal_options,
    fail_options,
    lost_state_option,
    real_system_options,
    reject_options,
    temporal_options,
    timeout_option,
    tool_prefix_option,
    verbose_option,
)

if TYPE_CHECKING:
    from pathlib import Path

    from invoice_mcp.adapters.settings import PortSettings
    from invoice_mcp.cli.backend import BackendSource
    from invoice_mcp.server.tool_names import ToolNames
    from invoice_mcp.server.transport.http_hosts import Authority
    from invoice_mcp.temporal.connection import TemporalSettings

T = TypeVar("T")


class CommonSettings(NamedTuple):
    """Settings that `serve` and `worker` share."""

    temporal: TemporalSettings
    ports: PortSettings


class _LazyGroup(click.Group):
    """Imports the modules of some commands only when one of these runs."""

    _lazy_commands = MappingProxyType(
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
        return sorted([*super().list_commands(ctx), *self._lazy_commands])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._lazy_commands:
            command: click.Command = getattr(import_module(self._lazy_commands[cmd_name]), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Try it:                 invoice-mcp demo
Test it in a simulator: invoice-mcp simulate
Connect Claude Code:    claude mcp add invoices -- invoice-mcp serve
Use a Temporal cluster: TEMPORAL_ADDRESS=host:7233 invoice-mcp serve --no-worker""",
)
@click.version_option(__version__, prog_name="invoice-mcp")
def main() -> None:
    """Invoices with human approval as MCP tools, on Temporal.

    An agent submits an invoice. It is checked against the ERP, waits up to five days for a person's approval, and is
    paid line by line on the due dates. Its state survives crashes and restarts.
    """


@main.command(epilog=EPILOG, short_help="Serve the MCP tools on stdio or HTTP.")
@click.option("--http", is_flag=True, help="Serve streamable HTTP at /mcp instead of stdin and stdout.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --http: the address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="With --http: the port.")
@allowed_host_option
@click.option(
    "--no-sessions",
    is_flag=True,
    help="With --http: keep no sessions, for several servers behind one address. Clients of a protocol before"
    " 2026-07-28 then can't be asked to confirm an approval.",
)
@click.option("--no-worker", is_flag=True, help="Run no worker in this process; `invoice-mcp worker` runs one.")
@tool_prefix_option
@timeout_option
@approval_option
@temporal_options
@embedded_temporal_options
@real_system_options
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
    """Serve the MCP tools to a host on stdin and stdout, or over HTTP.

    MCP hosts run this command. Several servers may run at once: they share one embedded Temporal and its invoices.
    """
    with _garbage_collection_paused():
        from invoice_mcp.cli.serve import serve as run_server

    if not http:
        reject_options(ctx, "These options need --http", "host", "port", "allowed_hosts", "no_sessions")
    if no_worker:
        reject_options(
            ctx, "With --no-worker these options have no effect", "allow_embedded", "fail_validate", "fail_payment"
        )
    settings = _settings(**options)

    def load() -> BackendSource:
        from invoice_mcp.cli.backend import BackendSource
        from invoice_mcp.server.approval_policy import ApprovalPolicy

        common = settings()
        policy = ApprovalPolicy(approval) if approval else None
        return BackendSource(common.temporal, common.ports, approval_timeout, policy, with_worker=not no_worker)

    over_http = None
    if http:
        from invoice_mcp.server.transport.http import HttpSettings

        over_http = HttpSettings(host, port, allowed_hosts, sessions=not no_sessions)
    _run(run_server(load, http=over_http, names=names))


@main.command(epilog=EPILOG, short_help="Run a worker, which validates and pays.")
@temporal_options
@embedded_temporal_options
@real_system_options
@embedded_option
@lost_state_option
@fail_options
@verbose_option
def worker(**options: Any) -> None:
    """Run a worker, which validates and pays invoices. Any number may run; stop with Ctrl-C or SIGTERM."""
    from invoice_mcp.cli.backend import run_worker

    common = _settings(**options)()
    _run(run_worker(common.temporal, common.ports))


@main.command()
@click.option("--reject", is_flag=True, help="The user rejects the invoice.")
@click.option("--expire", is_flag=True, help="Nobody decides before the deadline.")
@click.option(
    "--approval-timeout",
    callback=duration,
    metavar="DURATION",
    default=None,
    help=f"How long the invoice waits for approval.  [default: {DEFAULT_APPROVAL_TIMEOUT}; with --expire: 3s]",
)
@fail_options
def demo(
    *, reject: bool, expire: bool, approval_timeout: timedelta | None, fail_validate: bool, fail_payment: bool
) -> None:
    """Process one sample invoice, from submission to payment.

    Starts an embedded Temporal, a worker and the MCP server, and calls it as an MCP client with tasks: submits the
    sample invoice, answers the form that asks for approval, waits until it is PAID and prints the payment ledger.
    Deletes all its data at the end.

    \b
    Exit status: 0 the invoice ended as expected (PAID, or as --reject or
    --expire say), 1 it did not.
    """
    from rich.console import Console

    from invoice_mcp.cli.demo import Ending, play
    from invoice_mcp.output import flush_output, pipe_tolerant

    if reject and expire:
        raise click.UsageError("Use --reject or --expire, not both.")
    played = play(
        Ending.REJECTED if reject else Ending.EXPIRED if expire else Ending.PAID,
        disable_wrapping(Console(file=pipe_tolerant(sys.stdout), highlight=False)),
        home=_home(),
        approval_timeout=approval_timeout,
        fail_validate=fail_validate,
        fail_payment=fail_payment,
    )
    status = 0 if _run(played) else 1
    flush_output(sys.stdout)
    sys.exit(status)


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Pause the garbage collector during imports: they create no garbage, and it would take a tenth of their time."""
    if "mcp" in sys.modules:
        # The imports are done: the process may have garbage by now.
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
    accept_embedded_risk: bool,
    erp_url: str | None,
    payments_url: str | None,
    allow_embedded: bool,
    accept_lost_state: bool,
    fail_validate: bool,
    fail_payment: bool,
    verbose: bool,
) -> Callable[[], CommonSettings]:
    """Check the options now; return a function that builds the settings, which imports Temporal's client first."""
    from invoice_mcp.cli.logs import log_to_stderr

    log_to_stderr(verbose=verbose)
    if (fail_validate and erp_url) or (fail_payment and payments_url):
        raise click.UsageError(
            "--fail-validate and --fail-payment work only with the embedded ERP and gateway, not with a real one."
        )
    home = _home()

    def settings() -> CommonSettings:
        from invoice_mcp.adapters.settings import PortSettings
        from invoice_mcp.temporal.connection import TemporalSettings, log_through_python

        log_through_python()
        return CommonSettings(
            TemporalSettings(
                address=address,
                namespace=namespace,
                profile=profile,
                home=home,
                ui=ui,
                accept_embedded_risk=accept_embedded_risk,
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
    except _expected_errors() as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(130)


def _expected_errors() -> tuple[type[Exception], ...]:
    from invoice_mcp.domain.errors import ConfigurationError
    from invoice_mcp.temporal.embedded import EmbeddedUnavailableError

    return ConfigurationError, EmbeddedUnavailableError
