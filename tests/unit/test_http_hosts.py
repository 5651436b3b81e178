"""Allowed values of Host and Origin."""

from __future__ import annotations

import pytest

from invoice_mcp.server.transport.http_hosts import Authority, HostRule, is_loopback
from tests.requirements import requirement

LOOPBACK = HostRule()
NAMED = HostRule(
    frozenset(
        map(
            Authority.parse_option, ["invoices.example.com", "10.0.0.5:8000", "[FD00::5]:8000", "fd00:0::6", "desk:443"]
        )
    ),
    loopback=False,
)


@requirement("HTTP-HOSTS")
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "127.0.0.1", "localhost:9", "LocalHost:8000", "localhost.", "[::1]:8000", "[0:0:0:0:0:0:0:1]"],
)
def test_loopback_names_are_allowed_on_loopback(host: str) -> None:
    assert LOOPBACK.allows_host(host)
    for scheme in ("http", "https", "HTTP"):
        assert LOOPBACK.allows_origin(f"{scheme}://{host}")
    assert not NAMED.allows_host(host)
    assert not NAMED.allows_origin(f"http://{host}")


@requirement("HTTP-HOSTS")
@pytest.mark.parametrize(
    "host",
    [
        "invoices.example.com",
        "Invoices.Example.COM.:8443",
        "10.0.0.5:8000",
        "[fd00::5]:8000",
        "[fd00:0::6]:1",
        "desk",  # on the port that https has by default
        "desk:443",
    ],
)
def test_named_hosts_are_allowed_on_their_port_or_on_any(host: str) -> None:
    assert NAMED.allows_host(host)
    assert NAMED.allows_origin(f"https://{host}")
    assert not LOOPBACK.allows_host(host)


@requirement("HTTP-HOSTS")
@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "10.0.0.5",
        "10.0.0.5:8001",
        "[fd00::5]",
        "desk:80",
        "invoices.example.com.evil.example",
        "invoices.example.com..",
        "evil.invoices.example.com",
        "invoices.example.com:8000:1",
        "invoices.example.com:99999",
        "invoices.example.com:80x",
        "invoices.example.com@evil.example",
        "evil.example/invoices.example.com",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "[::1",
        "[::g]",
        "[::1]x",
        "::1",
        ".",
        " localhost",
        "localhost\n",
        "\u0131nvoices.example.com",
        "des\u212a",
    ],
)
def test_other_hosts_are_refused(host: str) -> None:
    for rule in (LOOPBACK, NAMED):
        assert not rule.allows_host(host)
        assert not rule.allows_origin(f"http://{host}")


@requirement("HTTP-HOSTS")
@pytest.mark.parametrize(
    "origin",
    ["null", "", "localhost", "file://", "ftp://localhost", "http://localhost/", "http:localhost", "http://desk"],
)
def test_an_origin_needs_an_http_scheme_and_a_name(origin: str) -> None:
    assert not LOOPBACK.allows_origin(origin)
    assert not NAMED.allows_origin(origin)
    assert NAMED.allows_origin("https://desk")


def test_only_loopback_addresses_are_loopback() -> None:
    assert is_loopback("127.0.0.2")
    assert is_loopback("::1")
    for address in ("0.0.0.0", "::", "10.0.0.5", "localhost"):
        assert not is_loopback(address)


@pytest.mark.parametrize("written", ["10.0.0.5:8000", "[fd00::5]:8000", "[fd00::5]", "desk"])
def test_an_authority_is_formatted_as_it_is_parsed(written: str) -> None:
    assert str(Authority.parse_option(written)) == written
    with pytest.raises(ValueError, match="evil"):
        Authority.parse_option(f"{written}/evil")
