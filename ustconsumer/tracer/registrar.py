# SPDX-License-Identifier: MIT
"""Who gives out ids: what the objects of a registry need of its notify socket."""

from __future__ import annotations

from typing import Protocol

from ustconsumer.protocol.notify import ChannelRequest, EnumRequest, EventRequest

__all__ = ["RefusedError", "Registrar"]


class RefusedError(Exception):
    """The registry answered a request with an error.

    Parameters
    ----------
    code : int
        A negative errno.
    """

    def __init__(self, code: int):
        super().__init__(f"the registry answered {code}")
        self.code = code


class Registrar(Protocol):
    """Requests on the notify socket; each blocks until its answer is there.

    Raises
    ------
    RefusedError
        An answer with an error; the connection is as good as before.
    OSError, RemoteProtocolError
        The registry is gone, or makes no sense: so it stays for every later request.
    """

    def event(self, request: EventRequest, /) -> int:
        """Return the id of an event in its channel."""

    def enum(self, request: EnumRequest, /) -> int:
        """Return the id of an enumeration."""

    def channel(self, request: ChannelRequest, /) -> tuple[int, int]:
        """Return the id of a channel and the kind of its event headers, 1 or 2."""
