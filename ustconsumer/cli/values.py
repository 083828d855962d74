# SPDX-License-Identifier: MIT
"""Option values in LTTng's notation: sizes, times, log levels, lists of names."""

from __future__ import annotations

import argparse
import mmap
import re

from ustconsumer.abi.loglevels import LOGLEVELS

__all__ = [
    "blocking_timeout",
    "loglevel",
    "microseconds",
    "names",
    "size",
    "subbuf_count",
    "subbuf_size",
    "timer",
    "tracefile_count",
    "uid",
    "workers",
]

_SIZE = re.compile(r"(0x[0-9a-f]+|[0-9]+)([kmg]?)", re.IGNORECASE)
_TIME = re.compile(r"([0-9]+)(us|ms|s|m|h|)")
_MICROSECONDS = {"": 1, "us": 1, "ms": 1000, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6}
#: As `lttng`: it keeps periods in 32 bits.
_LONGEST_PERIOD = (1 << 32) - 1
#: Twelve days: whoever means more means for ever.
_LONGEST_TIMEOUT = (1 << 40) - 1
_MOST_WORKERS = 64
_MOST_FILES = (1 << 32) - 1


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


def tracefile_count(text: str) -> int:
    """Return a number of files; 0: no limit."""
    if text.isascii() and text.isdigit() and int(text) <= _MOST_FILES:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of files: use 0 to {_MOST_FILES}")


def microseconds(text: str) -> int:
    """Return a time in microseconds: a number, with ``us``, ``ms``, ``s``, ``m`` or ``h``."""
    match = _TIME.fullmatch(text)
    if not match or not text.isascii():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time: use microseconds, or a number with us, ms, s, m or h"
        )
    return int(match[1]) * _MICROSECONDS[match[2]]


def timer(text: str) -> int:
    """Return the period of a timer in microseconds; 0: no timer."""
    period = microseconds(text)
    if period > _LONGEST_PERIOD:
        raise argparse.ArgumentTypeError(
            f"a period of {text} is too long: use at most {_LONGEST_PERIOD} us (71 minutes)"
        )
    return period


def blocking_timeout(text: str) -> int:
    """Return how long a full buffer holds a program up, in microseconds; -1: for ever."""
    if text == "inf":
        return -1
    try:
        timeout = microseconds(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or inf") from None
    if timeout > _LONGEST_TIMEOUT:
        raise argparse.ArgumentTypeError(f"a time-out of {text} is too long: use inf")
    return timeout


def workers(text: str) -> int:
    """Return a number of threads."""
    if text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_WORKERS:
        return int(text)
    raise argparse.ArgumentTypeError(
        f"{text!r} is not a number of threads: use 1 to {_MOST_WORKERS}"
    )


def loglevel(text: str) -> int:
    """Return the number of a log level: 0 to 14, or its name with or without ``TRACE_``."""
    name = text.upper().removeprefix("TRACE_")
    if name in LOGLEVELS:
        return LOGLEVELS.index(name)
    if text.isascii() and text.isdigit() and int(text) < len(LOGLEVELS):
        return int(text)
    raise argparse.ArgumentTypeError(
        f"unknown log level {text!r}: use EMERG, ALERT, CRIT, ERR, WARNING, NOTICE, INFO, "
        "DEBUG_SYSTEM ... DEBUG, or 0 to 14"
    )


def uid(text: str) -> int:
    """Return a user's number: the number itself, or the user's name."""
    if text.isascii() and text.isdigit():
        return int(text)
    import pwd  # not for --help

    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is no user") from None


def names(text: str) -> list[str]:
    """Return the names of a comma-separated list."""
    found = [name for name in text.split(",") if name]
    if not found:
        raise argparse.ArgumentTypeError("no name: give one, or several with commas between them")
    return found
