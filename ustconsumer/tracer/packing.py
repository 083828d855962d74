# SPDX-License-Identifier: MIT
"""Captured values as msgpack: no more of it than notifications need."""

from __future__ import annotations

import struct

from ustconsumer.tracer.compile import Enumerated

__all__ = ["array", "packed"]


def packed(value: object) -> bytes:
    """Return a captured value as msgpack.

    An int, a float, text as bytes, a list, an `Enumerated`, None for what is not there.
    """
    if value is None:
        return b"\xc0"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, bytes):
        return _head(len(value), 0xA0, 31, (0xD9, 0xDA, 0xDB)) + value
    if isinstance(value, Enumerated):
        return b"\x82\xa4type\xa4enum\xa5value" + _integer(value.value)
    if isinstance(value, list | tuple):
        return array([packed(element) for element in value])
    return b"\xc0"


def array(elements: list[bytes]) -> bytes:
    """Return an array of what is packed already."""
    return _head(len(elements), 0x90, 15, (None, 0xDC, 0xDD)) + b"".join(elements)


def _head(length: int, fixed: int, most: int, codes: tuple[int | None, int, int]) -> bytes:
    if length <= most:
        return bytes((fixed | length,))
    for code, bits in zip(codes, (8, 16, 32), strict=True):
        if code is not None and length < 1 << bits:
            return bytes((code,)) + length.to_bytes(bits // 8, "big")
    raise OverflowError(length)


def _integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack("b", value) if value < 0 else bytes((value,))
    if value >= 0:
        for code, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
            if value < 1 << 8 * size:
                return bytes((code,)) + value.to_bytes(size, "big")
    for code, size in ((0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)):
        if value >= -(1 << 8 * size - 1) and value < 0:
            return bytes((code,)) + value.to_bytes(size, "big", signed=True)
    raise OverflowError(value)
