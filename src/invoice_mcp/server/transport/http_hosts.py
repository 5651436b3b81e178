"""Checks of `Host` and `Origin`, against DNS rebinding: a foreign web page must not call the server via a browser."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

_AUTHORITY = re.compile(
    r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::(?P<port>\d{0,5}))?", re.IGNORECASE | re.ASCII
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Authority(NamedTuple):
    """Host and port of a URL. The name is in lower case; an IPv6 address is compressed and without brackets."""

    name: str
    port: int | None
    """None if the URL has no port."""

    @classmethod
    def of(cls, text: str) -> Authority | None:
        """Parse a `Host` header; None if it is invalid."""
        found = _AUTHORITY.fullmatch(text)
        if found is None:
            return None
        port = int(found["port"]) if found["port"] else None
        if found["v6"] is None:
            # A trailing dot does not change the host.
            name = found["name"].lower().removesuffix(".")
        else:
            try:
                name = IPv6Address(found["v6"]).compressed
            except ValueError:
                return None
        return cls(name, port) if name and (port is None or port <= 65535) else None

    @classmethod
    def parse_option(cls, text: str) -> Authority:
        """Parse an option value: also an IPv6 address without brackets.

        Raises:
            ValueError: It is invalid.
        """
        read = cls.of(f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text)
        if read is None:
            raise ValueError(text)
        return read

    @property
    def is_loopback(self) -> bool:
        """Whether the name is that of the loopback interface."""
        return self.name == "localhost" or is_loopback(self.name)

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


def is_loopback(address: str) -> bool:
    """Whether this is a loopback address; False for names."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class HostRule:
    """The allowed values of `Host` and `Origin`.

    A name without a port allows every port: a page can forge only the name, and tunnels change the port.
    """

    allowed: frozenset[Authority] = frozenset()
    loopback: bool = True
    """Whether the loopback names are allowed too, on every port."""

    def allows_host(self, host: str) -> bool:
        """Whether to answer a request with this `Host`."""
        authority = Authority.of(host)
        return authority is not None and self._allows(authority, *_DEFAULT_PORTS.values())

    def allows_origin(self, origin: str) -> bool:
        """Whether a page of this `Origin` may call. `null` is refused."""
        scheme, _, rest = origin.partition("://")
        authority = Authority.of(rest)
        default = _DEFAULT_PORTS.get(scheme.lower())
        return authority is not None and default is not None and self._allows(authority, default)

    def _allows(self, authority: Authority, *default_ports: int) -> bool:
        if self.loopback and authority.is_loopback:
            return True
        ports = default_ports if authority.port is None else (authority.port,)
        return any(Authority(authority.name, port) in self.allowed for port in (None, *ports))
