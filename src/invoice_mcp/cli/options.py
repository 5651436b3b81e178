"""Options that commands share, and the parsers of their values."""

# Slow imports are inside functions, so that --help is fast.

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from invoice_mcp.server.approval_policy import ApprovalPolicy
from invoice_mcp.server.tool_names import ToolNames
from invoice_mcp.server.transport.http_hosts import Authority

# As `domain.report.DEFAULT_APPROVAL_TIMEOUT`, whose import takes longer than --help may; a test compares them.
DEFAULT_APPROVAL_TIMEOUT = "5d"

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(?:([0-9]+(?:\.[0-9]+)?)([smhd]))")


def duration(_ctx: click.Context | None, _param: click.Parameter | None, value: str | None) -> timedelta | None:
    """Click callback: parse a duration such as 3s, 30m, 12h, 5d or 1d12h."""
    if value is None:
        return None
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise click.BadParameter(f"{value!r} is not a duration such as 3s, 30m, 12h, 5d or 1d12h.")
    try:
        return _validated_timeout(
            sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())
        )
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} must be more than 0s and at most 3650 days.") from None


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
            f"{str(error)!r} is not a host such as invoices.example.com, 10.0.0.5:8000 or [fd00::5]:8000."
        ) from None


def _tool_names(_ctx: click.Context | None, _param: click.Parameter | None, value: str) -> ToolNames:
    try:
        return ToolNames(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} can't be the prefix of a tool name: {error}.") from None


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _not_empty(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty value: a script's unset variable must not replace a real system by an embedded one."""
    if value is not None and not value.strip():
        raise click.BadParameter("the value is empty; give a value, or leave the option out.")
    return value


temporal_options = _options(
    click.option(
        "--address",
        metavar="HOST:PORT",
        callback=_not_empty,
        help="Address of the Temporal frontend, instead of the embedded server.",
    ),
    click.option("--namespace", callback=_not_empty, help="Temporal namespace."),
    click.option("--profile", callback=_not_empty, help="Profile in temporal.toml."),
)


def _system_url(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Click callback: the URL from the option, the variable or the file named in e.g. ERP_URL_FILE.

    A URL with a password is refused in a command line, where every user of the machine can read it.
    """
    variable = str(param.envvar)
    if ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE:
        if _has_password(_not_empty(ctx, param, value) or ""):
            raise click.BadParameter(
                "the URL contains a password, which every user of this machine can read in a command line. "
                f"Set {variable} instead, or {variable}_FILE to the path of a file with the URL."
            )
        return value
    file = os.environ.get(f"{variable}_FILE")
    if file is None:
        return value
    if value is not None:
        raise click.BadParameter(f"both {variable} and {variable}_FILE are set; unset one.")
    try:
        return _not_empty(ctx, param, Path(file).read_text(encoding="utf-8").strip())
    except (OSError, ValueError) as error:
        # Not the decoding error: it may quote a part of the password.
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise click.BadParameter(f"the file {file!r} of {variable}_FILE can't be read: {why}.") from None


def _has_password(url: str) -> bool:
    # Not urlsplit: a password that is not percent-encoded may make the text an invalid URL.
    user, at, _ = (url.partition("://")[2] or url).rpartition("@")
    return bool(at) and ":" in user


real_system_options = _options(
    click.option(
        "--erp-url",
        envvar="ERP_URL",
        show_envvar=True,
        metavar="URL",
        callback=_system_url,
        help="URL of a real ERP. With a password, use the variable, or ERP_URL_FILE with the path of a file.",
    ),
    click.option(
        "--payments-url",
        envvar="PAYMENTS_URL",
        show_envvar=True,
        metavar="URL",
        callback=_system_url,
        help="URL of a real payment gateway. With a password, use the variable, or PAYMENTS_URL_FILE with the path of a"
        " file.",
    ),
)
embedded_temporal_options = _options(
    click.option(
        "--ui", is_flag=True, help="Run the embedded Temporal with its Web UI, which web pages can reach too."
    ),
    click.option(
        "--accept-embedded-risk",
        "accept_embedded_risk",
        envvar="INVOICE_MCP_ACCEPT_EMBEDDED_RISK",
        show_envvar=True,
        is_flag=True,
        help="Allow a real ERP or gateway with the embedded Temporal, which any user of this machine can reach.",
    ),
)
embedded_option = click.option(
    "--embedded-ports",
    "allow_embedded",
    is_flag=True,
    help="Allow the embedded ERP and gateway, which pay nobody, on a shared Temporal.",
)
lost_state_option = click.option(
    "--accept-lost-state",
    is_flag=True,
    help="Start, this once, although local state is lost, and with it the record of payments.",
)
fail_options = _options(
    click.option("--fail-validate", is_flag=True, help="For trials: the embedded ERP refuses every invoice."),
    click.option("--fail-payment", is_flag=True, help="For trials: the embedded gateway refuses every payment."),
)
timeout_option = click.option(
    "--approval-timeout",
    callback=duration,
    metavar="DURATION",
    default=DEFAULT_APPROVAL_TIMEOUT,
    show_default=True,
    help="How long an invoice waits for a decision, e.g. 3s, 12h, 5d. For invoices submitted from now on.",
)
approval_option = click.option(
    "--approval",
    type=click.Choice([policy.value for policy in ApprovalPolicy]),
    default=None,
    help="What an approval needs. ask: a form answered with yes if the client shows forms, else nothing. trust:"
    " nothing. ask-or-refuse: a form answered with yes.  [default: ask if Temporal, ERP and gateway are all embedded,"
    " else ask-or-refuse]",
)
allowed_host_option = click.option(
    "--allowed-host",
    "allowed_hosts",
    metavar="NAME[:PORT]",
    multiple=True,
    callback=_authorities,
    help="With --http: a name of this server in Host and Origin headers; others are refused. May be repeated."
    "  [default: the loopback names if it listens on loopback; else required]",
)
tool_prefix_option = click.option(
    "--tool-prefix",
    "names",
    metavar="PREFIX",
    default="",
    callback=_tool_names,
    help="Prefix of each tool name, for hosts that show tools without their server: invoice_ gives invoice_list and"
    " invoice_status.",
)
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Log details to stderr.")

EPILOG = """\b
Which Temporal: --address, --namespace and --profile take precedence, then
Temporal's standard environment (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE,
TEMPORAL_API_KEY, TEMPORAL_PROFILE, temporal.toml; a namespace or key without
an address means localhost:7233). If none is set, the embedded server, with
its data under INVOICE_MCP_HOME."""


def reject_options(ctx: click.Context, why: str, *names: str) -> None:
    """Refuse options given in the command line that would have no effect.

    Raises:
        click.UsageError: One of `names` was given.
    """
    options = {param.name: param.opts[0] for param in ctx.command.params}
    parse_option = [options[name] for name in names if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if parse_option:
        raise click.UsageError(f"{why}: leave out {', '.join(parse_option)}")
