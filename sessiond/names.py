# SPDX-License-Identifier: MIT
"""What a session, a channel and an event rule may be called."""

from __future__ import annotations

from ustconsumer.errors import UsageError

__all__ = ["check_channel_name", "check_output", "check_pattern", "check_session_name"]

#: Bytes; the limit of liblttng-ust's names, with the NUL.
_SYMBOL = 256
#: A channel's name is part of file names: ``NAME_CPU.idx``.
_CHANNEL = 240


def _printable(what: str, name: str, limit: int) -> None:
    if not name:
        raise UsageError(f"{what} is empty: give it a name")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not text: use UTF-8") from None
    if size >= limit:
        raise UsageError(f"{what} has {size} bytes: use fewer than {limit}")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise UsageError(f"{what} {name!r} has control characters: leave them out")


def check_session_name(name: str) -> None:
    """Raise `UsageError` unless this can be a session's name."""
    _printable("session name", name, 255)
    if "/" in name or name in (".", ".."):
        raise UsageError(f"session name {name!r} is like a path: leave out the slash")


def check_channel_name(name: str) -> None:
    """Raise `UsageError` unless this can be a channel's name, which also names files."""
    _printable("channel name", name, _CHANNEL)
    # Readers take files with a leading dot for no part of the trace.
    if "/" in name or name.startswith("."):
        raise UsageError(f"channel name {name!r} cannot name a file: no slash, no leading dot")


def check_pattern(pattern: str) -> None:
    """Raise `UsageError` unless this can match the name of a tracepoint."""
    _printable("event pattern", pattern, _SYMBOL)


def check_output(output: str, what: str = "output directory") -> None:
    """Raise `UsageError` unless this is an absolute path, or empty for none."""
    if output:
        _printable(what, output, 4096)
        if not output.startswith("/"):
            raise UsageError(f"{what} {output!r} is not absolute: start it with /")
