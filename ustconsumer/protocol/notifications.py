# SPDX-License-Identifier: MIT
"""What event notifiers of an application put on their pipe: bytes in, notifications out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from ustconsumer.abi.application import TRACER_LAYOUTS

__all__ = ["AppNotification", "NotificationDecoder"]

_LAYOUT = TRACER_LAYOUTS[9].notification
_decoder = msgspec.msgpack.Decoder(list[Any])


class AppNotification(NamedTuple):
    """An event notifier fired.

    Attributes
    ----------
    token : int
        Of the notifier.
    captures : list or None
        A value for each capture, None for one that the event does not have. None in place
        of the list: what came is no list of values.
    """

    token: int
    captures: list[Any] | None


class NotificationDecoder:
    """Turns the bytes of a pipe into notifications.

    A notification is written at once, and says how long it is: no more than its 16 bits
    of captures wait here for their end.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterator[AppNotification]:
        """Add bytes; yield each complete notification."""
        self._buffer += chunk
        begin = 0
        while len(self._buffer) - begin >= _LAYOUT.size:
            token = _LAYOUT.get(self._buffer, begin, "token")
            body = begin + _LAYOUT.size
            end = body + _LAYOUT.get(self._buffer, begin, "length")
            if end > len(self._buffer):
                break
            yield AppNotification(token, _captures(bytes(self._buffer[body:end])))
            begin = end
        del self._buffer[:begin]


def _captures(raw: bytes) -> list[Any] | None:
    if not raw:
        return []
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
