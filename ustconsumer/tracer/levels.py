# SPDX-License-Identifier: MIT
"""How severe a tracepoint is, in the words of LTTng."""

from __future__ import annotations

__all__ = ["Level", "level_of"]


class Level:
    """The log levels of LTTng: the lower, the more severe.

    A tracepoint has `DEBUG_LINE` unless it says otherwise.
    """

    EMERG = 0
    ALERT = 1
    CRIT = 2
    ERR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG_SYSTEM = 7
    DEBUG_PROGRAM = 8
    DEBUG_PROCESS = 9
    DEBUG_MODULE = 10
    DEBUG_UNIT = 11
    DEBUG_FUNCTION = 12
    DEBUG_LINE = 13
    DEBUG = 14


#: The names `logging` has for some of them.
_OTHER_NAMES = {"CRITICAL": Level.CRIT, "ERROR": Level.ERR, "WARN": Level.WARNING}


def level_of(level: int | str) -> int:
    """Return the number of a level that is given as such, or by name in any case.

    Raises
    ------
    ValueError
        There is no such level.
    TypeError
        It is neither a number nor a name.
    """
    if isinstance(level, str):
        name = level.upper().replace("-", "_")
        known = _OTHER_NAMES.get(name, Level.__dict__.get(name))
        if isinstance(known, int):
            return known
        raise ValueError(f"no level is called {level!r}: use emerg to debug, or Level")
    if isinstance(level, bool) or not isinstance(level, int):
        raise TypeError(f"{level!r} is no level: use a name, a number from 0 to 14, or Level")
    if not 0 <= level <= Level.DEBUG:
        raise ValueError(f"level {level}: use 0 (emerg) to 14 (debug)")
    return int(level)
