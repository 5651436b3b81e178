"""Connection to Temporal: a configured address or profile, or the embedded server."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter

from invoice_mcp.domain.errors import ConfigurationError
from invoice_mcp.temporal.embedded import EmbeddedTemporal, Endpoint
from invoice_mcp.temporal.home import default_home

# The default of Temporal's own tools, if a namespace or a key is configured but no address.
_DEFAULT_ADDRESS = "localhost:7233"
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_log = logging.getLogger(__name__)
_LOOK_AT = "Look at TEMPORAL_PROFILE, TEMPORAL_CONFIG_FILE and the other TEMPORAL_ variables"


def log_through_python() -> None:
    """Forward the logs of the SDK's core to Python logging. By default it writes to stdout, which the protocol uses.

    Call once per process, before the first client is created.
    """
    logs = LoggingConfig(
        filter=TelemetryFilter(core_level="WARN", other_level="ERROR"),
        forwarding=LogForwardingConfig(logger=logging.getLogger("temporalio.core")),
    )
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=logs)), error_if_already_set=False)


@dataclass(frozen=True)
class TemporalSettings:
    """Options of the command line about Temporal.

    The rest comes from Temporal's standard environment (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY,
    TEMPORAL_TLS..., temporal.toml profiles).

    Attributes:
        ui: Start the embedded server with its Web UI.
        accept_embedded_risk: The user knows who can reach the embedded server, or a local one without TLS and key, and
            moves real money all the same.
    """

    address: str | None = None
    namespace: str | None = None
    profile: str | None = None
    home: Path = field(default_factory=default_home)
    ui: bool = False
    accept_embedded_risk: bool = False


@dataclass(frozen=True)
class Connection:
    """Connection of this process to Temporal.

    Attributes:
        client: For everything but workers. Lazy: it connects when first used, so that the MCP server can start, and
            report what is wrong, while Temporal is down.
        where: Address and namespace, for messages.
        is_embedded: Whether it is the embedded server, of this user only.
        is_local: Whether it is the embedded server or a dev server on this machine.
        ui_url: URL of the embedded server's Web UI; None if it is off.
    """

    client: Client
    where: str
    is_embedded: bool
    is_local: bool
    ui_url: str | None
    _config: dict[str, Any] = field(repr=False)  # it may hold a key

    async def worker_client(self) -> Client:
        """A connected client, as a worker needs it.

        Raises:
            RuntimeError: Temporal can't be reached.
        """
        return await Client.connect(**self._config)


def load_client_config(settings: TemporalSettings) -> dict[str, Any] | None:
    """Arguments for `Client.connect`; None if no Temporal is configured, which means the embedded one.

    Raises:
        ConfigurationError: A profile or file can't be read, or `ui` is set for a configured Temporal.
    """
    # The SDK treats a missing file as an empty one.
    file = os.environ.get("TEMPORAL_CONFIG_FILE")
    if file and not os.path.exists(file):  # noqa: PTH110 (a Path raises where the name is none)
        raise ConfigurationError(f"Temporal's configuration can't be read: there is no {file}. {_LOOK_AT}")
    try:
        config: dict[str, Any] = dict(ClientConfig.load_client_connect_config(settings.profile))
    except (RuntimeError, OSError, ValueError) as error:
        raise ConfigurationError(f"Temporal's configuration can't be read: {error}. {_LOOK_AT}") from None
    if settings.address:
        config["target_host"] = settings.address
    if settings.namespace:
        config["namespace"] = settings.namespace
    address = config.get("target_host", _DEFAULT_ADDRESS)
    if not _ADDRESS.fullmatch(address) or int(address.rpartition(":")[2]) > 65535:
        raise ConfigurationError(
            f"Temporal's address {address!r} must read host:port. Look at --address and TEMPORAL_ADDRESS"
        )
    if config and settings.ui:
        raise ConfigurationError("--ui is for the embedded Temporal; the configured one has a Web UI of its own")
    return {"target_host": _DEFAULT_ADDRESS, **config} if config else None


@asynccontextmanager
async def open_connection(settings: TemporalSettings) -> AsyncIterator[Connection]:
    """The configured Temporal; if none is configured the embedded one, started or joined.

    Raises:
        ConfigurationError: The configuration can't be read, or the embedded server's home is not this user's alone.
        EmbeddedUnavailableError: The embedded server does not come up.
    """
    async with open_configured(settings, load_client_config(settings)) as reached:
        yield reached


@asynccontextmanager
async def open_configured(settings: TemporalSettings, config: dict[str, Any] | None) -> AsyncIterator[Connection]:
    """As `open_connection`, with the result of `load_client_config`."""
    if config is not None:
        where = f"{config['target_host']}, namespace {config.get('namespace', 'default')}"
        yield await _lazy_connection(config, where, is_local=is_local(config))
        return
    async with EmbeddedTemporal(settings.home, ui=settings.ui) as embedded:
        endpoint = embedded.endpoint
        _log_ui_url(endpoint, is_wanted=settings.ui)
        where = f"embedded at {endpoint.address}, data in {settings.home}"
        yield await _lazy_connection({"target_host": endpoint.address}, where, is_embedded=True, ui_url=endpoint.ui_url)


def _log_ui_url(endpoint: Endpoint, *, is_wanted: bool) -> None:
    if endpoint.ui_url:
        _log.warning(
            "Web UI at %s. While it is on, a web page that you visit may read and approve too", endpoint.ui_url
        )
    elif is_wanted:
        _log.warning(
            "No Web UI: the embedded Temporal runs without. End all that use it, then start one with --ui first"
        )


def is_local(config: dict[str, Any]) -> bool:
    """Whether a configured Temporal is a dev server on this machine."""
    # A local address that needs a key or a certificate is a tunnel to another machine.
    is_here = config["target_host"].rpartition(":")[0] in _LOCAL
    return is_here and not config.get("tls") and not config.get("api_key")


async def _lazy_connection(
    config: dict[str, Any],
    where: str,
    *,
    is_embedded: bool = False,
    is_local: bool = True,
    ui_url: str | None = None,
) -> Connection:
    config = {**config, "data_converter": pydantic_data_converter}
    client = await Client.connect(**config, lazy=True)
    return Connection(client, where, is_embedded, is_local, ui_url, config)
