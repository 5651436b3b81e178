"""Options that commands share, and how what is given with them is read."""

# As in cli.py: what takes a second to import is imported when it is needed.
# ruff: noqa: PLC0415

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click
from click.core import ParameterSource

from invoice_mcp.http_hosts import Authority

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)([smhd]))")


def duration(_ctx: click.Context | None, _param: click.Parameter | None, value: str | None) -> timedelta | None:
    """A span of time as people write it: 3s, 30m, 12h, 5d, or 1d12h."""
    if value is None:
        return None
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise click.BadParameter(f"{value!r} is not a duration; write it like 3s, 30m, 12h, 5d or 1d12h.")
    try:
        return _checked_window(sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta()))
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} must be longer than nothing and at most 3650 days.") from None


def _checked_window(span: timedelta) -> timedelta:
    from invoice_mcp.reports import Policy

    return Policy(approval_timeout=span).approval_timeout


def _authorities(
    _ctx: click.Context | None, _param: click.Parameter | None, values: tuple[str, ...]
) -> tuple[Authority, ...]:
    try:
        return tuple(Authority.given(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(
            f"{str(error)!r} names no host; write it like invoices.example.com, 10.0.0.5:8000 or [fd00::5]:8000."
        ) from None


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _not_empty(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A script's variable that is not set must not turn real payments into pretended ones."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty; give a value, or leave the option out.")
    return value


temporal_options = _options(
    click.option(
        "--address",
        metavar="HOST:PORT",
        callback=_not_empty,
        help="Temporal frontend; instead of the embedded server.",
    ),
    click.option("--namespace", callback=_not_empty, help="Temporal namespace."),
    click.option("--profile", callback=_not_empty, help="Profile of temporal.toml to use."),
)
real_ports = _options(
    click.option(
        "--erp-url",
        envvar="ERP_URL",
        show_envvar=True,
        metavar="URL",
        callback=_not_empty,
        help="A real ERP, over HTTP.",
    ),
    click.option(
        "--payments-url",
        envvar="PAYMENTS_URL",
        show_envvar=True,
        metavar="URL",
        callback=_not_empty,
        help="A real payment gateway, over HTTP.",
    ),
)
embedded_option = click.option(
    "--embedded-ports", "allow_embedded", is_flag=True, help="Pretend to pay, also on a Temporal that others share."
)
fail_options = _options(
    click.option("--fail-validate", is_flag=True, help="To try it out: this worker's ERP refuses."),
    click.option("--fail-payment", is_flag=True, help="To try it out: this worker's gateway refuses."),
)
timeout_option = click.option(
    "--approval-timeout",
    callback=duration,
    metavar="DURATION",
    default="5d",
    show_default=True,
    help="How long an invoice waits for its decision: 3s, 12h, 5d. Holds for invoices submitted from now on.",
)
allowed_host_option = click.option(
    "--allowed-host",
    "allowed_hosts",
    metavar="NAME[:PORT]",
    multiple=True,
    callback=_authorities,
    help="With --http: a name of this server, for Host and Origin; all others are refused. Repeat it for several."
    "  [default: the names of loopback, where it listens there; needed elsewhere]",
)
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Tell on stderr what goes on.")

EPILOG = """\b
Which Temporal: --address, --namespace and --profile come first, then Temporal's standard
environment (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY, TEMPORAL_PROFILE,
temporal.toml; a namespace or key without address means localhost:7233), and where nothing
is set the embedded server, with its data under INVOICE_MCP_HOME."""


def refuse(ctx: click.Context, why: str, *names: str) -> None:
    """What would be ignored is not accepted, where it was given with the command."""
    options = {param.name: param.opts[0] for param in ctx.command.params}
    given = [options[name] for name in names if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given:
        raise click.UsageError(f"{why}: leave out {', '.join(given)}")
