# SPDX-License-Identifier: MIT
"""Where a relay is: URLs in LTTng's words, and ours for what the bytes are wrapped in."""

from __future__ import annotations

import re

import msgspec

from ustconsumer.errors import UsageError
from ustconsumer.protocol.relay import CONTROL_PORT, DATA_PORT

__all__ = ["HOST", "RelayUrl", "parse_url"]

_SCHEME = re.compile(r"net(6?)((?:\+(?:zstd|tls))*)")
#: A name or an address, one of IPv6 in brackets and perhaps with its interface.
HOST = r"(\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[^/:\[\]\x00-\x20\x7f]+)"
_URL = re.compile(rf"([a-z0-9+]+)://{HOST}((?::[0-9]{{1,5}})*)(/[^\x00-\x1f\x7f]*)?")


class RelayUrl(msgspec.Struct, frozen=True, kw_only=True):
    """A relay: its control and its data port, mostly on one host."""

    host: str
    control_port: int = CONTROL_PORT
    data_host: str = ""
    data_port: int = DATA_PORT
    #: below the relay's directory, without a leading slash
    path: str = ""
    ipv6: bool = False
    zstd: bool = False
    tls: bool = False

    def __str__(self) -> str:
        wrapped = "".join(
            f"+{name}" for name, wanted in (("tls", self.tls), ("zstd", self.zstd)) if wanted
        )
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = f"/{self.path}" if self.path else ""
        family = "6" if self.ipv6 else ""
        return f"net{family}{wrapped}://{host}:{self.control_port}:{self.data_port}{path}"


def parse_url(url: str) -> RelayUrl:
    """Return what a URL says: ``net[6][+tls][+zstd]://HOST[:CTRL[:DATA]][/PATH]``.

    Raises
    ------
    UsageError
        It is no such URL.
    """
    match = _URL.fullmatch(url)
    scheme = match and _SCHEME.fullmatch(match[1])
    if match is None or scheme is None:
        raise UsageError(
            f"{url!r} is no URL of a relay: write net://HOST[:CTRL[:DATA]][/PATH], with net6 for "
            "IPv6, net+tls, net+zstd or net+tls+zstd for what both ends must be ours"
        )
    wrapped = scheme[2].split("+")[1:]
    if len(set(wrapped)) != len(wrapped):
        raise UsageError(f"{url!r} says {scheme[2]}: once each")
    ports = [int(port) for port in match[3].split(":")[1:]]
    if len(ports) > 2 or any(not 0 < port < 65536 for port in ports):
        raise UsageError(f"{url!r}: at most two ports, control and data, from 1 to 65535")
    path = (match[4] or "").strip("/")
    if ".." in path.split("/"):
        raise UsageError(f"{url!r}: its path leaves the relay's directory")
    return RelayUrl(
        host=match[2].strip("[]"),
        control_port=ports[0] if ports else CONTROL_PORT,
        data_port=ports[1] if len(ports) > 1 else DATA_PORT,
        path=path,
        ipv6=bool(scheme[1]),
        zstd="zstd" in wrapped,
        tls="tls" in wrapped,
    )
