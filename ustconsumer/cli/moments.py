# SPDX-License-Identifier: MIT
"""Times on the command line, as babeltrace2 takes them for ``--begin`` and ``--end``."""

from __future__ import annotations

import calendar
import re
import time
from typing import NamedTuple

from ustconsumer.errors import UsageError

__all__ = ["Moment"]

_SECOND = 1_000_000_000
_DATE = r"(\d{4})-(\d{2})-(\d{2})"
_TIME = r"(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?"
_MOMENT = re.compile(rf"(?:{_DATE}(?: {_TIME})?|{_TIME})", re.ASCII)
_SECONDS = re.compile(r"(-?)(\d+)(?:\.(\d{1,9}))?", re.ASCII)


class Moment(NamedTuple):
    """A time of any day, or of one.

    Attributes
    ----------
    date : tuple of year, month, day, or None for that of the trace
    seconds : int
        Since midnight; without ``wall`` since the epoch.
    nanoseconds : int
        On top of the seconds.
    """

    date: tuple[int, int, int] | None
    seconds: int
    nanoseconds: int
    wall: bool

    @classmethod
    def parse(cls, text: str) -> Moment:
        """Read ``[YYYY-MM-DD ]hh:mm[:ss[.n]]``, ``YYYY-MM-DD`` or ``[-]s[.n]``.

        Raises
        ------
        UsageError
            It is none of these.
        """
        if match := _MOMENT.fullmatch(text):
            year, month, day, *times = match.groups()
            hour, minute, second, fraction = times[:4] if times[0] else times[4:]
            date = (int(year), int(month), int(day)) if year else None
            seconds = int(hour or 0) * 3600 + int(minute or 0) * 60 + int(second or 0)
            return cls(date, seconds, _fraction(fraction), True)
        if match := _SECONDS.fullmatch(text):
            sign, whole, fraction = match.groups()
            total = int(whole) * _SECOND + _fraction(fraction)
            return cls(None, *divmod(-total if sign else total, _SECOND), False)
        raise UsageError(
            f"{text!r} is no time: give [YYYY-MM-DD ]hh:mm[:ss[.nnnnnnnnn]], YYYY-MM-DD, or "
            "seconds since 1970"
        )

    def nanoseconds_since_epoch(self, first: int, gmt: bool) -> int:
        """Return which moment this is.

        Parameters
        ----------
        first : int
            A time of the day that is meant where none was given, ns since the epoch.
        gmt : bool
            In Greenwich, else here.
        """
        if not self.wall:
            return self.seconds * _SECOND + self.nanoseconds
        if self.date is None:
            second = first // _SECOND
            day = (time.gmtime if gmt else time.localtime)(second)
            date: tuple[int, int, int] = (day.tm_year, day.tm_mon, day.tm_mday)
        else:
            date = self.date
        minutes, second = divmod(self.seconds, 60)
        parts = (*date, *divmod(minutes, 60), second, 0, 0, -1)
        try:
            seconds = calendar.timegm(parts) if gmt else int(time.mktime(parts))
        except (OverflowError, ValueError):
            raise UsageError(f"no such date: {'-'.join(map(str, date))}") from None
        return seconds * _SECOND + self.nanoseconds


def _fraction(digits: str | None) -> int:
    return int((digits or "").ljust(9, "0"))
