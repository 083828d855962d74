# SPDX-License-Identifier: MIT
"""What event notifiers of a program write to their pipe: bytes and values, no I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from ustconsumer.abi.application import TRACER_LAYOUTS
from ustconsumer.errors import RemoteProtocolError

__all__ = ["MAX_CAPTURED", "NotificationDecoder", "captured"]

_HEAD = TRACER_LAYOUTS[9].notification
_FIRST = struct.Struct("<QH")
#: Bytes that follow a head: both are written at once, and a pipe of Linux takes no more whole.
MAX_CAPTURED = 4096 - _HEAD.size
#: Arrays and maps within one another; a tracer makes two: all captures, and one of them.
_MAX_NESTING = 3

#: msgpack, by first byte: numbers, ...
_NUMBERS = {
    0xCA: struct.Struct(">f"),
    0xCB: struct.Struct(">d"),
    0xCC: struct.Struct(">B"),
    0xCD: struct.Struct(">H"),
    0xCE: struct.Struct(">I"),
    0xCF: struct.Struct(">Q"),
    0xD0: struct.Struct(">b"),
    0xD1: struct.Struct(">h"),
    0xD2: struct.Struct(">i"),
    0xD3: struct.Struct(">q"),
}
#: ... and what has a length of so many bytes.
_TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}
_NIL = 0xC0


class NotificationDecoder:
    """Turns what was read from the pipe into notifications.

    Keeps no more than one that is not complete.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield token and packed captures of each notification that is complete.

        Raises
        ------
        RemoteProtocolError
            It has more captures than a tracer can write.
        """
        raw = self._rest + chunk
        at = 0
        while len(raw) - at >= _HEAD.size:
            token, length = _FIRST.unpack_from(raw, at)
            if length > MAX_CAPTURED:
                raise RemoteProtocolError(f"notification with captures of {length} bytes")
            end = at + _HEAD.size + length
            if end > len(raw):
                break
            yield token, raw[at + _HEAD.size : end]
            at = end
        self._rest = raw[at:]


def captured(raw: bytes, count: int) -> list[Any]:
    """Return captured values.

    Parameters
    ----------
    count : int
        How many there must be.

    Returns
    -------
    list
        Numbers, texts (what is not UTF-8 is replaced), lists of them, None for what the event
        does not have; an enumeration is a dict with its number as ``value``.

    Raises
    ------
    RemoteProtocolError
        They are not what a tracer makes, or not so many.
    """
    if not count and not raw:
        return []
    reader = _Reader(raw)
    try:
        values = reader.value()
    except (IndexError, struct.error):
        raise RemoteProtocolError("captures that end in the middle of a value") from None
    if not isinstance(values, list) or len(values) != count or reader.at != len(raw):
        raise RemoteProtocolError(f"captures that are not {count} values")
    return values


class _Reader:
    """Reads msgpack as far as tracers write it."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.at = 0

    def value(self, nesting: int = 0) -> Any:
        """Return the next value."""
        code = self._raw[self.at]
        self.at += 1
        if code < 0x80:
            return code
        if code >= 0xE0:
            return code - 0x100
        if code == _NIL:
            return None
        if number := _NUMBERS.get(code):
            (value,) = number.unpack_from(self._raw, self.at)
            self.at += number.size
            return value
        if 0xA0 <= code < 0xC0 or code in _TEXTS:
            return self._text(self._length(_TEXTS, code, 0x1F))
        if 0x90 <= code < 0xA0 or code in _ARRAYS:
            return self._array(self._length(_ARRAYS, code, 0x0F), nesting + 1)
        if code < 0x90 or code in _MAPS:
            return self._map(self._length(_MAPS, code, 0x0F), nesting + 1)
        raise RemoteProtocolError(f"captures with msgpack {code:#x}, which no tracer writes")

    def _length(self, sizes: dict[int, int], code: int, bits: int) -> int:
        """Return the length in a first byte, or behind it."""
        size = sizes.get(code, 0)
        if not size:
            return code & bits
        at = self.at
        self.at += size
        if self.at > len(self._raw):
            raise IndexError
        return int.from_bytes(self._raw[at : self.at], "big")

    def _text(self, length: int) -> str:
        at = self.at
        self.at += length
        if self.at > len(self._raw):
            raise IndexError
        return self._raw[at : self.at].decode("utf-8", "replace")

    def _array(self, length: int, nesting: int) -> list[Any]:
        self._check(length, nesting)
        return [self.value(nesting) for _ in range(length)]

    def _map(self, length: int, nesting: int) -> dict[str, Any]:
        self._check(2 * length, nesting)
        values: dict[str, Any] = {}
        for _ in range(length):
            key = self.value(nesting)
            if not isinstance(key, str):
                raise RemoteProtocolError("captures with a map whose keys are no text")
            values[key] = self.value(nesting)
        return values

    def _check(self, length: int, nesting: int) -> None:
        # Each element has one byte at least.
        if nesting > _MAX_NESTING or length > len(self._raw) - self.at:
            raise RemoteProtocolError("captures nested or sized as no tracer makes them")
