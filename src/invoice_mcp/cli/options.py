"""Options that commands share, and how what is given with them is read."""

# As in main.py: what takes a second to import is imported when it is needed.
# ruff: noqa: PLC0415

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from invoice_mcp.server.tool_names import ToolNames
from invoice_mcp.server.transport.http_hosts import Authority

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(?:([0-9]+(?:\.[0-9]+)?)([smhd]))")


def duration(_ctx: click.Context | None, _param: click.Parameter | None, value: str | None) -> timedelta | None:
    """A span of time as people write it: 3s, 30m, 12h, 5d, or 1d12h."""
    if value is None:
        return None
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise click.BadParameter(f"{value!r} is not a duration; write it like 3s, 30m, 12h, 5d or 1d12h.")
    try:
        return _validated_timeout(
            sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())
        )
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} must be longer than nothing and at most 3650 days.") from None


def _validated_timeout(span: timedelta) -> timedelta:
    from invoice_mcp.domain.report import Policy

    return Policy(approval_timeout=span).approval_timeout


def _authorities(
    _ctx: click.Context | None, _param: click.Parameter | None, values: tuple[str, ...]
) -> tuple[Authority, ...]:
    try:
        return tuple(Authority.parse_option(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(
            f"{str(error)!r} names no host; write it like invoices.example.com, 10.0.0.5:8000 or [fd00::5]:8000."
        ) from None


def _tool_names(_ctx: click.Context | None, _param: click.Parameter | None, value: str) -> ToolNames:
    try:
        return ToolNames(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} can't begin the name of a tool: {error}.") from None


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


def _system_url(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The URL, also from the file that e.g. ERP_URL_FILE names; none with a password from where `ps` shows it."""
    variable = str(param.envvar)
    if ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE:
        if _has_password(_not_empty(ctx, param, value) or ""):
            raise click.BadParameter(
                "it has a password, which every user of this machine can read in a command line. "
                f"Set {variable} instead, or {variable}_FILE to a file that holds the URL."
            )
        return value
    file = os.environ.get(f"{variable}_FILE")
    if file is None:
        return value
    if value is not None:
        raise click.BadParameter(f"both {variable} and {variable}_FILE are set; leave one out.")
    try:
        return _not_empty(ctx, param, Path(file).read_text(encoding="utf-8").strip())
    except (OSError, ValueError) as error:
        # What can't be decoded may be a piece of the password.
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise click.BadParameter(f"{variable}_FILE names {file!r}, which can't be read: {why}.") from None


def _has_password(url: str) -> bool:
    # As a person means it: what is not percent-encoded may be no URL at all.
    user, at, _ = (url.partition("://")[2] or url).rpartition("@")
    return bool(at) and ":" in user


real_system_options = _options(
    click.option(
        "--erp-url",
        envvar="ERP_URL",
        show_envvar=True,
        metavar="URL",
        callback=_system_url,
        help="A real ERP, over HTTP. With a password: in the variable, or in a file that ERP_URL_FILE names.",
    ),
    click.option(
        "--payments-url",
        envvar="PAYMENTS_URL",
        show_envvar=True,
        metavar="URL",
        callback=_system_url,
        help="A real payment gateway, over HTTP. With a password: in the variable, or in a file that PAYMENTS_URL_FILE"
        " names.",
    ),
)
embedded_temporal_options = _options(
    click.option("--ui", is_flag=True, help="The embedded Temporal with its Web UI, which web pages may reach too."),
    click.option(
        "--accept-embedded-risk",
        "accept_embedded_risk",
        envvar="INVOICE_MCP_ACCEPT_EMBEDDED_RISK",
        show_envvar=True,
        is_flag=True,
        help="Use the embedded Temporal with a real ERP and gateway too, though any user of this machine can reach it.",
    ),
)
embedded_option = click.option(
    "--embedded-ports", "allow_embedded", is_flag=True, help="Pretend to pay, also on a Temporal that others share."
)
lost_state_option = click.option(
    "--accept-lost-state",
    is_flag=True,
    help="Go on, this once, although local state is lost, and with it what was paid.",
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
tool_prefix_option = click.option(
    "--tool-prefix",
    "names",
    metavar="PREFIX",
    default="",
    callback=_tool_names,
    help="Put this before the name of each tool, where a host would show a bare `list` or `status` beside its own:"
    " invoice_ makes them invoice_list and invoice_status.",
)
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Tell more on stderr of what goes on.")

EPILOG = """\b
Which Temporal: --address, --namespace and --profile come first, then
Temporal's standard environment (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE,
TEMPORAL_API_KEY, TEMPORAL_PROFILE, temporal.toml; a namespace or key without
address means localhost:7233), and where nothing is set the embedded server,
with its data under INVOICE_MCP_HOME."""


def reject_options(ctx: click.Context, why: str, *names: str) -> None:
    """What would be ignored is not accepted, where it was given with the command."""
    options = {param.name: param.opts[0] for param in ctx.command.params}
    parse_option = [options[name] for name in names if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if parse_option:
        raise click.UsageError(f"{why}: leave out {', '.join(parse_option)}")
