# SPDX-License-Identifier: MIT
"""Where packets go, in the URLs that ``lttng`` has: one of a relay, or one for each port."""

from __future__ import annotations

import re

import msgspec

from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Destination
from ustconsumer.protocol.relay import CONTROL_PORT, DATA_PORT
from ustconsumer.protocol.relayurl import HOST, RelayUrl, parse_url

__all__ = ["is_relay_url", "of_ports", "relay_of", "shown_relay"]

_SCHEME = re.compile(r"net6?(\+[a-z+]*)?://")
_PORT_URL = re.compile(rf"tcp(6?)://{HOST}(?::([0-9]{{1,5}}))?(?:/([^\x00-\x1f\x7f]*))?")


def is_relay_url(text: str) -> bool:
    """Return whether a text is meant as the URL of a relay; `parse_url` says if it is one."""
    return _SCHEME.match(text) is not None


def relay_of(destination: Destination) -> RelayUrl:
    """Return the relay of a destination that has one.

    Raises
    ------
    UsageError
        A URL is none.
    """
    relay = parse_url(destination.url)
    if not destination.data_url:
        return relay
    ipv6, host, port, path = _port(destination.data_url, DATA_PORT)
    if path:
        raise UsageError(f"{destination.data_url!r}: the path belongs to the control port's URL")
    if ipv6 != relay.ipv6:
        raise UsageError(
            f"{destination.data_url!r}: both ports are reached with IPv6, or none of them"
        )
    return msgspec.structs.replace(
        relay, data_host="" if host == relay.host else host, data_port=port
    )


def of_ports(control: str, data: str) -> tuple[str, str]:
    """Return the URL of the relay whose ports these are, and that of its data port.

    Parameters
    ----------
    control, data : str
        ``tcp://HOST[:PORT][/PATH]`` or ``tcp6://``; the path is the first one's.

    Returns
    -------
    tuple of str
        ``url`` and ``data_url`` of a `Destination`; the second is empty if one says it all.

    Raises
    ------
    UsageError
        One is no such URL, or they contradict each other.
    """
    ipv6, host, port, path = _port(control, CONTROL_PORT)
    relay = RelayUrl(host=host, control_port=port, path=path, ipv6=ipv6)
    whole = relay_of(Destination(url=str(relay), data_url=data))
    return str(whole), data if whole.data_host else ""


def shown_relay(destination: Destination, *, data: bool = True) -> str:
    """Return a relay as ``lttng`` shows it, or as its URL if that says more.

    ``data``: with its data port, as of sessions; snapshot outputs are shown without.
    """
    relay = relay_of(destination)
    if relay.tls or relay.zstd:
        return str(relay)
    family = 6 if relay.ipv6 else 4
    control = f"tcp{family}://{_bracketed(relay.host)}:{relay.control_port}/{relay.path}"
    if not data:
        return control
    host = f"{_bracketed(relay.data_host)}:" if relay.data_host else ""
    return f"{control} [data: {host}{relay.data_port}]"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _port(url: str, default: int) -> tuple[bool, str, int, str]:
    """Return whether it is IPv6, host, port and path."""
    match = _PORT_URL.fullmatch(url)
    if match is None:
        raise UsageError(f"{url!r} is no URL of a port: write tcp://HOST[:PORT] or tcp6://")
    port = int(match[3]) if match[3] else default
    if not 0 < port < 65536:
        raise UsageError(f"{url!r}: a port has a number from 1 to 65535")
    return bool(match[1]), match[2].strip("[]"), port, (match[4] or "").strip("/")
