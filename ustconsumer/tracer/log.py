# SPDX-License-Identifier: MIT
"""What a program logs with `logging`, as events.

.. code-block:: python

    logging.getLogger().addHandler(ustconsumer.tracer.log.Handler())
"""

from __future__ import annotations

import logging
import traceback as tracebacks

from ustconsumer.tracer.levels import Level
from ustconsumer.tracer.provider import Provider
from ustconsumer.tracer.types import i32, string, u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ustconsumer._native.emit import Tracepoint

__all__ = ["EVENTS", "Handler"]

#: From which level of Python's: the event, and its level in LTTng. Most severe first.
EVENTS = (
    (logging.CRITICAL, "log_critical", Level.CRIT),
    (logging.ERROR, "log_error", Level.ERR),
    (logging.WARNING, "log_warning", Level.WARNING),
    # Between the two, where programs put levels of their own.
    (logging.INFO + 1, "log_notice", Level.NOTICE),
    (logging.INFO, "log_info", Level.INFO),
    (logging.NOTSET, "log_debug", Level.DEBUG),
)
_FIELDS = {
    "message": string,
    "logger": string,
    "level": i32,
    "file": string,
    "line": u32,
    "function": string,
    "thread": string,
}


class Handler(logging.Handler):
    """Emits an event for each record, by default ``python:log_info`` and the like.

    There is an event for each level, so that a registry can choose by level. What nobody
    records costs next to nothing: filters and formatter of the handler are not asked. Never
    prints, never raises: a record that cannot be formatted is emitted as it was given.

    The message is what the handler's formatter makes, if it has one; else the record's own,
    without the exception.

    Parameters
    ----------
    level : int
        As in `logging.Handler`.
    provider_name : str
    traceback : bool
        Events have a field ``traceback``: the exception's and the stack's text, or empty.
    """

    def __init__(
        self, level: int = logging.NOTSET, *, provider_name: str = "python", traceback: bool = False
    ) -> None:
        super().__init__(level)
        provider = Provider(provider_name)
        fields = {**_FIELDS, "traceback": string} if traceback else _FIELDS
        self._traceback = traceback
        self._points = tuple(
            (number, provider.tracepoint(name, level=level_, truncate=True, fields=fields))
            for number, name, level_ in EVENTS
        )

    def _point(self, number: int) -> Tracepoint:
        for least, point in self._points:
            if number >= least:
                return point
        # Below 0.
        return self._points[-1][1]

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit a record if it is recorded and passes the handler's filters."""
        if not self._point(record.levelno).enabled:
            return False
        # Without the handler's lock: a tracepoint needs none.
        passed = self.filter(record)
        if not passed:
            return False
        # Since Python 3.12 a filter may return another record.
        self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Emit a record."""
        point = self._point(record.levelno)
        if not point.enabled:
            return
        values = [
            self._message(record),
            _text(record.name),
            record.levelno,
            _text(record.pathname),
            record.lineno or 0,
            _text(record.funcName),
            _text(record.threadName),
        ]
        if self._traceback:
            values.append(_trace(record))
        try:
            point(*values)
        except (TypeError, ValueError):
            # Made by hand, with numbers that are none.
            values[2] = values[4] = 0
            point(*values)

    def _message(self, record: logging.LogRecord) -> str:
        try:
            return _text(self.formatter.format(record) if self.formatter else record.getMessage())
        except Exception:
            return _text(record.msg)


def _trace(record: logging.LogRecord) -> str:
    try:
        text = ""
        if record.exc_info and record.exc_info[0] is not None:
            text = "".join(tracebacks.format_exception(*record.exc_info))
        elif record.exc_text:
            text = record.exc_text
        if record.stack_info:
            text = f"{text}\n{record.stack_info}" if text else record.stack_info
        return _text(text.rstrip("\n"))
    except Exception:
        return ""


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"
