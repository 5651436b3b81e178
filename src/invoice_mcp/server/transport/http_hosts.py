"""Which names a server on HTTP answers to: a page of somebody else's must not talk to it through a browser."""

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
    """A host as a URL names it. The name is in lower case, an IPv6 address in its short form without brackets."""

    name: str
    port: int | None
    """None: not named."""

    @classmethod
    def of(cls, text: str) -> Authority | None:
        """Read it as it stands in `Host`. None: it is no such thing."""
        found = _AUTHORITY.fullmatch(text)
        if found is None:
            return None
        port = int(found["port"]) if found["port"] else None
        if found["v6"] is None:
            # A dot at the end names the same host.
            name = found["name"].lower().removesuffix(".")
        else:
            try:
                name = IPv6Address(found["v6"]).compressed
            except ValueError:
                return None
        return cls(name, port) if name and (port is None or port <= 65535) else None

    @classmethod
    def parse_option(cls, text: str) -> Authority:
        """Read it as people write it: also an IPv6 address without brackets.

        Raises:
            ValueError: It is no such thing.
        """
        read = cls.of(f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text)
        if read is None:
            raise ValueError(text)
        return read

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine is called so."""
        return self.name == "localhost" or is_loopback(self.name)

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


def is_loopback(address: str) -> bool:
    """Whether it is an address, and only this machine reaches it."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class HostRule:
    """What `Host` and `Origin` may say.

    A name without a port allows every port: a page can forge the name only, and tunnels change the port.
    """

    allowed: frozenset[Authority] = frozenset()
    loopback: bool = True
    """Whether loopback's own names are allowed too, on every port."""

    def allows_host(self, host: str) -> bool:
        """Whether a request to this `Host` is answered."""
        authority = Authority.of(host)
        return authority is not None and self._allows(authority, *_DEFAULT_PORTS.values())

    def allows_origin(self, origin: str) -> bool:
        """Whether a page of this `Origin` may call; `null` may not."""
        scheme, _, rest = origin.partition("://")
        authority = Authority.of(rest)
        default = _DEFAULT_PORTS.get(scheme.lower())
        return authority is not None and default is not None and self._allows(authority, default)

    def _allows(self, authority: Authority, *default_ports: int) -> bool:
        if self.loopback and authority.is_loopback:
            return True
        ports = default_ports if authority.port is None else (authority.port,)
        return any(Authority(authority.name, port) in self.allowed for port in (None, *ports))
