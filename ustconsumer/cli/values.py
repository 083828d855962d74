# SPDX-License-Identifier: MIT
"""Option values in LTTng's notation: sizes, log levels, lists of names."""

from __future__ import annotations

import argparse
import mmap
import re

__all__ = ["loglevel", "names", "size", "subbuf_count", "subbuf_size"]

_SIZE = re.compile(r"(0x[0-9a-f]+|[0-9]+)([kmg]?)", re.IGNORECASE)
_LOGLEVELS = (
    *("EMERG", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO"),
    *("DEBUG_SYSTEM", "DEBUG_PROGRAM", "DEBUG_PROCESS", "DEBUG_MODULE", "DEBUG_UNIT"),
    *("DEBUG_FUNCTION", "DEBUG_LINE", "DEBUG"),
)


def size(text: str) -> int:
    """Return a size in bytes: a number, with ``k``, ``M`` or ``G`` (powers of 1024) behind it."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: use a number like 65536 or 64k")
    return (
        int(match[1], 0 if match[1][:2] in ("0x", "0X") else 10)
        << ({"": 0, "k": 10, "m": 20, "g": 30}[match[2].lower()])
    )


def subbuf_size(text: str) -> int:
    """Return the size of a sub-buffer: a power of two of at least one page."""
    return _power_of_two(text, size(text), mmap.PAGESIZE, "sub-buffer size")


def subbuf_count(text: str) -> int:
    """Return a number of sub-buffers: a power of two."""
    return _power_of_two(text, size(text), 1, "number of sub-buffers")


def _power_of_two(text: str, value: int, least: int, what: str) -> int:
    if value < least:
        raise argparse.ArgumentTypeError(f"{what} {text} is too small: use at least {least}")
    if value & (value - 1):
        below = 1 << (value.bit_length() - 1)
        nearest = below if value - below < 2 * below - value else 2 * below
        raise argparse.ArgumentTypeError(
            f"{what} {text} is not a power of two: the nearest is {nearest}"
        )
    return value


def loglevel(text: str) -> int:
    """Return the number of a log level: 0 to 14, or its name with or without ``TRACE_``."""
    name = text.upper().removeprefix("TRACE_")
    if name in _LOGLEVELS:
        return _LOGLEVELS.index(name)
    if text.isascii() and text.isdigit() and int(text) < len(_LOGLEVELS):
        return int(text)
    raise argparse.ArgumentTypeError(
        f"unknown log level {text!r}: use EMERG, ALERT, CRIT, ERR, WARNING, NOTICE, INFO, "
        "DEBUG_SYSTEM ... DEBUG, or 0 to 14"
    )


def names(text: str) -> list[str]:
    """Return the names of a comma-separated list."""
    found = [name for name in text.split(",") if name]
    if not found:
        raise argparse.ArgumentTypeError("no name: give one, or several with commas between them")
    return found
