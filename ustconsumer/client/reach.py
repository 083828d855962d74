# SPDX-License-Identifier: MIT
"""Whether a session's relay can be reached, for who would like to know at once."""

from __future__ import annotations

import socket

from ustconsumer.protocol.control import Destination
from ustconsumer.protocol.destinations import relay_of

__all__ = ["why_unreachable"]

#: Of a relay that does not answer nothing is known: its consumer goes on trying.
_PATIENCE = 1.0


def why_unreachable(destination: Destination) -> str:
    """Return why nothing listens at the relay of a destination, in a line; empty if there is one.

    Only the way is tried: what a relay says to a session, its consumer tells.
    """
    relay = relay_of(destination)
    family = socket.AF_INET6 if relay.ipv6 else socket.AF_INET
    try:
        found = socket.getaddrinfo(relay.host, relay.control_port, family, socket.SOCK_STREAM)
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(_PATIENCE)
            sock.connect(found[0][4])
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        return f"relay {relay}: {reason or error}"
    return ""
