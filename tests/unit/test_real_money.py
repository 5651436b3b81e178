"""Real systems: where their passwords may stand, and on which Temporal they are used."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner

from invoice_mcp.adapters.settings import PortSettings, open_ports
from invoice_mcp.cli.backend import check_embedded_risk, read_configuration
from invoice_mcp.cli.main import main
from invoice_mcp.cli.options import real_system_options
from invoice_mcp.domain.errors import ConfigurationError
from invoice_mcp.temporal.connection import Connection, TemporalSettings
from tests.requirements import requirement

OPTIONS = [("--payments-url", "PAYMENTS_URL"), ("--erp-url", "ERP_URL")]
SECRET = "hunter2"


@click.command()
@real_system_options
def show(**urls: str | None) -> None:
    """What the options came to."""
    click.echo(next((url for url in urls.values() if url), "nothing"))


@requirement("EMBEDDED-SECRETS")
@pytest.mark.parametrize(("option", "variable"), OPTIONS)
@pytest.mark.parametrize("command", ["serve", "worker"])
@pytest.mark.parametrize(
    "url", [f"https://acme:{SECRET}@bank.example", f"https://acme:{SECRET}/@bank.example", f"acme:{SECRET}@bank"]
)
def test_a_password_in_the_command_line_is_refused_and_not_repeated(
    command: str, option: str, variable: str, url: str
) -> None:
    shown = CliRunner().invoke(main, [command, option, url])
    assert shown.exit_code == 2
    assert f"Set {variable} instead, or {variable}_FILE to the path" in " ".join(shown.output.split())
    assert SECRET not in shown.output


@requirement("EMBEDDED-SECRETS")
@pytest.mark.parametrize(("option", "variable"), OPTIONS)
def test_a_password_may_stand_in_the_variable_or_in_a_file(option: str, variable: str, tmp_path: Path) -> None:
    url = f"https://acme:{SECRET}@bank.example"
    file = tmp_path / "url"
    file.write_text(f"{url}\n")
    run = CliRunner().invoke
    assert run(show, env={variable: url}).output == f"{url}\n"
    assert run(show, env={f"{variable}_FILE": str(file)}).output == f"{url}\n"
    assert run(show).output == "nothing\n"
    given = [option, "https://acme@bank.example:8443/v1"]
    assert run(show, given, env={f"{variable}_FILE": str(file)}).output == f"{given[1]}\n", (
        "the command line comes first"
    )


@requirement("EMBEDDED-SECRETS")
@pytest.mark.parametrize("content", [None, b"", b"  \n", SECRET.encode() + b"\xff"])
def test_a_file_that_holds_no_url_is_told_and_never_means_to_pretend(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)
    shown = CliRunner().invoke(show, env={"PAYMENTS_URL_FILE": str(file)})
    assert shown.exit_code == 2
    assert "--payments-url" in shown.output
    assert SECRET not in shown.output


def test_a_variable_and_a_file_at_once_are_refused(tmp_path: Path) -> None:
    shown = CliRunner().invoke(show, env={"ERP_URL": "https://a.example", "ERP_URL_FILE": str(tmp_path / "url")})
    assert shown.exit_code == 2
    assert "both ERP_URL and ERP_URL_FILE are set" in shown.output


@requirement("EMBEDDED-SECRETS")
def test_what_is_printed_of_the_settings_holds_no_secret(tmp_path: Path) -> None:
    url = f"https://acme:{SECRET}@bank.example"
    assert SECRET not in repr(PortSettings(home=tmp_path, erp_url=url, payments_url=url))
    client: Any = None
    assert SECRET not in repr(Connection(client, "there", False, False, None, {"api_key": SECRET}))


@requirement("EMBEDDED-RISK")
def test_who_can_reach_the_embedded_temporal_is_told_in_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    check_embedded_risk(TemporalSettings(), PortSettings(tmp_path))
    (told,) = caplog.records
    assert told.levelno == logging.INFO
    assert "not for real money: any user of this machine can reach it" in told.getMessage()
    assert "\n" not in told.getMessage()


@requirement("EMBEDDED-RISK")
@pytest.mark.parametrize("given", [{"accept_embedded_risk": True}, {"address": "db.example:7233"}])
async def test_nothing_is_told_of_another_temporal_or_to_who_has_accepted_it(
    tmp_path: Path, given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = TemporalSettings(home=tmp_path / "home", **given)
    for url in (None, "https://bank.example"):
        await read_configuration(settings, PortSettings(settings.home, payments_url=url), with_worker=False)
    assert [record for record in caplog.records if record.name.startswith("invoice_mcp")] == []


@requirement("LOCAL-RISK")
@pytest.mark.parametrize(
    ("address", "real", "given", "is_told"),
    [
        ("127.0.0.1:7233", {"payments_url": "https://bank.example"}, {}, True),
        ("localhost:7233", {"erp_url": "https://erp.example"}, {}, True),
        ("[::1]:7233", {"erp_url": "https://erp.example", "payments_url": "https://bank.example"}, {}, True),
        ("127.0.0.1:7233", {}, {}, False),
        ("127.0.0.1:7233", {"payments_url": "https://bank.example"}, {"accept_embedded_risk": True}, False),
        ("db.example:7233", {"payments_url": "https://bank.example"}, {}, False),
    ],
)
@pytest.mark.parametrize("with_worker", [True, False])
async def test_who_can_reach_a_temporal_of_this_machine_is_told_where_money_is_real(
    *,
    address: str,
    real: dict[str, Any],
    given: dict[str, Any],
    is_told: bool,
    with_worker: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = TemporalSettings(address=address, home=tmp_path, **given)
    ports = PortSettings(tmp_path, allow_embedded=True, **real)
    await read_configuration(settings, ports, with_worker=with_worker)
    told = [record for record in caplog.records if record.name.startswith("invoice_mcp")]
    assert len(told) == is_told
    for line in told:
        assert line.levelno == logging.WARNING
        assert (
            f"{address} has no TLS and no API key: any user of this machine can reach it and approve"
            in line.getMessage()
        )
        assert "\n" not in line.getMessage()


@requirement("LOCAL-RISK")
@pytest.mark.parametrize("variable", ["TEMPORAL_API_KEY", "TEMPORAL_TLS"])
async def test_a_temporal_that_asks_who_is_there_is_not_warned_of(
    variable: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "true")
    settings = TemporalSettings(address="127.0.0.1:7233", home=tmp_path)
    ports = PortSettings(tmp_path, erp_url="https://erp.example", payments_url="https://bank.example")
    await read_configuration(settings, ports, with_worker=True)
    assert [record for record in caplog.records if record.name.startswith("invoice_mcp")] == []


@requirement("EMBEDDED-RISK")
@pytest.mark.parametrize("name", ["erp_url", "payments_url"])
def test_real_systems_are_not_used_on_the_embedded_temporal_unless_that_is_accepted(tmp_path: Path, name: str) -> None:
    url: Any = {name: "https://x.example"}
    with pytest.raises(
        ConfigurationError, match=r"--address or TEMPORAL_ADDRESS.*--accept-embedded-risk or INVOICE_MC"
    ):
        check_embedded_risk(TemporalSettings(), PortSettings(tmp_path, **url))


@requirement("EMBEDDED-RISK")
@pytest.mark.parametrize(
    "command", [["worker"], ["serve", "--http", "--port", "0"], ["serve", "--no-worker", "--http", "--port", "0"]]
)
def test_a_command_that_would_says_so_before_anything_is_started(command: list[str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    shown = CliRunner().invoke(
        main, command, env={"PAYMENTS_URL": "https://bank.example", "INVOICE_MCP_HOME": str(home)}
    )
    assert shown.exit_code == 1
    assert "INVOICE_MCP_ACCEPT_EMBEDDED_RISK=1" in shown.output
    assert not home.exists()
    gc.collect()  # A socket that was left open would be told here, as an error.


@requirement("EMBEDDED-RISK")
@pytest.mark.parametrize(
    ("given", "variable", "accepts"),
    [(["--accept-embedded-risk"], {}, True), ([], {"INVOICE_MCP_ACCEPT_EMBEDDED_RISK": "1"}, True), ([], {}, False)],
)
# Over HTTP: on stdio a thread may still read stdin, so the process itself is ended.
@pytest.mark.parametrize("command", [["serve", "--http", "--port=0"], ["worker"]], ids=" ".join)
def test_the_risk_is_accepted_by_option_or_environment(
    monkeypatch: pytest.MonkeyPatch, command: list[str], given: list[str], variable: dict[str, str], accepts: bool
) -> None:
    def told(temporal: TemporalSettings, _ports: PortSettings) -> None:
        raise ConfigurationError(f"accepts: {temporal.accept_embedded_risk}, UI: {temporal.ui}")

    monkeypatch.setattr("invoice_mcp.cli.backend.check_embedded_risk", told)
    assert f"accepts: {accepts}, UI: False" in CliRunner().invoke(main, [*command, *given], env=variable).output
    assert f"accepts: {accepts}, UI: True" in CliRunner().invoke(main, [*command, "--ui", *given], env=variable).output


async def test_the_connections_of_both_ports_are_closed_at_the_end(tmp_path: Path) -> None:
    settings = PortSettings(home=tmp_path, erp_url="http://127.0.0.1:1", payments_url="http://127.0.0.1:1")
    async with open_ports(settings) as (erp, payments):
        clients = [cast(Any, port)._remote._client for port in (erp, payments)]
        assert not any(client.is_closed for client in clients)
    assert all(client.is_closed for client in clients)
