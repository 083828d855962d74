# SPDX-License-Identifier: MIT
"""Events as lines of text, as babeltrace2 2.0 prints them, byte for byte.

Text of a trace is whatever bytes were recorded. Here it is a str of one character per
byte; writing it takes ``encode("latin-1")``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from ustconsumer.abi.loglevels import LOGLEVELS
from ustconsumer.ctf.classes import EventClass, StreamClass, TraceClass
from ustconsumer.ctf.decode import Form
from ustconsumer.ctf.types import EnumEntry, Integer
from ustconsumer.ctf.walk import Read, Walk, labels

__all__ = ["DEFAULT_FIELDS", "FIELDS", "Lines", "TextForm", "TextOptions", "as_bytes"]

_SECOND = 1_000_000_000

#: A template for ``%``, and the expressions of what goes into it.
_Piece: TypeAlias = tuple[str, list[str]]

_ESCAPES = {
    **{code: f"\\x{code:02x}" for code in (*range(1, 32), 127)},
    **{ord(char): f"\\{char}" for char in "\\'\"?"},
    **{ord(char): f"\\{name}" for char, name in zip("\a\b\x1b\f\n\r\t\v", "abefnrtv", strict=True)},
}


#: What can stand between the time of an event and its name.
FIELDS = frozenset(
    {
        "trace",
        "trace:hostname",
        "trace:domain",
        "trace:procname",
        "trace:vpid",
        "loglevel",
        "emf",
    }
)
DEFAULT_FIELDS = frozenset({"trace:hostname", "trace:procname", "trace:vpid"})


class TextOptions(NamedTuple):
    """What babeltrace2's options of the same names change."""

    delta: bool = True
    clock_cycles: bool = False
    clock_date: bool = False
    clock_gmt: bool = False
    clock_seconds: bool = False
    #: of `FIELDS`: what stands between time and event
    fields: frozenset[str] = DEFAULT_FIELDS


def as_bytes(text: str) -> str:
    """Return a name or label, one character per byte."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


class _Escaped(dict[bytes, str]):
    """By bytes up to a NUL: the same between quotation marks."""

    def __missing__(self, raw: bytes) -> str:
        text = raw.partition(b"\0")[0].decode("latin-1")
        quoted = f'"{text.translate(_ESCAPES)}"'
        # Names repeat, messages less so.
        if len(raw) <= 64:
            if len(self) >= 4096:
                self.clear()
            self[raw] = quoted
        return quoted


_escaped = _Escaped()


class _Notation(NamedTuple):
    """How integers of a type are written."""

    template: str
    #: What is seen of a value, 0 for all of it.
    mask: int = 0
    #: Binary digits, 0 for another base.
    digits: int = 0

    @classmethod
    def of(cls, type_: Integer) -> _Notation:
        size = type_.size
        match type_.base:
            case 16:
                # Digits of four bits, whole ones.
                size = (size + 3) // 4 * 4
                return cls("0x%X", (1 << size) - 1 if type_.signed else 0)
            case 8:
                # Digits of three, which sign bits fill; but no more than 64 bits.
                size = (size + 2) // 3 * 3 if size < 64 else 64
                return cls("0%o", (1 << size) - 1 if type_.signed else 0)
            case 2:
                return cls("0b%s", (1 << size) - 1, size)
        return cls("%d")

    def wanted(self, value: str) -> str:
        """Return the expression of what goes into the template."""
        if self.digits:
            return f"f'{{{value} & {self.mask}:0{self.digits}b}}'"
        return f"({value} & {self.mask})" if self.mask else value

    def text(self, value: int) -> str:
        if self.mask:
            value &= self.mask
        return self.template % (f"{value:0{self.digits}b}" if self.digits else value)


class _EnumerationText(dict[int, str]):
    """By value: labels and value."""

    def __init__(self, entries: tuple[EnumEntry, ...], type_: Integer) -> None:
        self._entries = entries
        self._type = type_

    def __missing__(self, value: int) -> str:
        known = labels(self._entries, self._type, value)
        names = (_escaped[label.encode("utf-8", "surrogateescape")] for label in known)
        number = _Notation.of(self._type).text(value)
        text = f"( {', '.join(names) or '<unknown>'} : container = {number} )"
        if len(self) >= 1024:
            self.clear()
        self[value] = text
        return text


class _ArrayTemplates(dict[int, str]):
    """By number of elements: template of an array."""

    def __init__(self, element: str) -> None:
        self._element = element

    def __missing__(self, count: int) -> str:
        members = ", ".join(f"[{number}] = {self._element}" for number in range(count))
        template = f"[ {members} ]" if count else "[ ]"
        if count <= 256 and len(self) < 64:
            self[count] = template
        return template


def _nan(value: float) -> str:
    return "-nan" if math.copysign(1.0, value) < 0 else "nan"


class _TextWalk(Walk[_Piece]):
    """Makes text."""

    def integer(self, type_: Integer, value: str) -> _Piece:
        notation = _Notation.of(type_)
        return notation.template, [notation.wanted(value)]

    def real(self, value: str) -> _Piece:
        # Python does not show the sign of what is no number.
        return "%s", [f"('%g' % {value} if {value} == {value} else {self.constant(_nan)}({value}))"]

    def text(self, value: str) -> _Piece:
        return "%s", [f"{self.constant(_escaped)}[{value}]"]

    def enumeration(self, type_: Integer, entries: tuple[EnumEntry, ...], value: str) -> _Piece:
        return "%s", [f"{self.constant(_EnumerationText(entries, type_))}[{value}]"]

    def integers(self, type_: Integer, value: str, count: str) -> _Piece:
        notation = _Notation.of(type_)
        templates = self.constant(_ArrayTemplates(notation.template))
        if notation.mask:
            value = f"(*[{notation.wanted('x')} for x in {value}],)"
        return "%s", [f"{templates}[{count}] % {value}"]

    def struct(self, names: list[str], members: list[_Piece]) -> _Piece:
        if not names:
            return "{ }", []
        template = ", ".join(
            f"{_quoted(as_bytes(name))} = {member}"
            for name, (member, _) in zip(names, members, strict=True)
        )
        return f"{{ {template} }}", [value for _, values in members for value in values]

    def variant(self, choice: str) -> _Piece:
        return "{ %s }", [choice]

    def expression(self, piece: _Piece) -> str:
        template, values = piece
        # A tuple also for one: and without any, the template's "%%" become "%".
        return f"{self.constant(template)} % ({''.join(f'{value}, ' for value in values)})"


def _quoted(text: str) -> str:
    """Return a template that gives the text."""
    return text.replace("%", "%%")


class TextForm(Form[str]):
    """Records as text, from behind the time to the end of the line.

    Parameters
    ----------
    options : TextOptions
    path : str
        What the trace is called, for ``trace`` among the fields.
    """

    def __init__(self, options: TextOptions = TextOptions(), path: str = "") -> None:  # noqa: B008
        self._options = options
        self._path = path

    def context(self, trace: TraceClass, stream: StreamClass, cpu_id: int) -> Read:
        walk = _TextWalk(trace.enums)
        packet = f"{{ cpu_id = {cpu_id:d} }}"
        if not stream.contexts:
            return walk.function((packet, []))
        template, values = walk.fields(stream.contexts)
        return walk.function((f"{packet}, {template}", values))

    def payload(self, trace: TraceClass, event: EventClass) -> Callable[..., tuple[str, int]]:
        walk = _TextWalk(trace.enums)
        template, values = walk.fields(event.fields)
        head = _quoted(as_bytes(self._origin(trace, event) + event.name))
        line = f"{head}: %s, {template}\n"
        return walk.function((line, ["context", *values]), ("context",))

    def _origin(self, trace: TraceClass, event: EventClass) -> str:
        shown = self._options.fields
        parts: list[str] = []
        for name in ("hostname", "domain", "procname"):
            if f"trace:{name}" in shown and name in trace.env:
                parts.append(f"{trace.env[name]}")
        if "trace:vpid" in shown and "vpid" in trace.env:
            parts.append(f"({trace.env['vpid']})")
        level = event.loglevel
        if "loglevel" in shown and level is not None and 0 <= level < len(LOGLEVELS):
            parts.append(f"TRACE_{LOGLEVELS[level]} ({level})")
        if "emf" in shown and event.model_emf_uri:
            parts.append(event.model_emf_uri)
        path = self._path if "trace" in shown else ""
        return path + (":".join(parts) + " " if parts else "")


class Lines:
    """Puts time, and time since the event before, in front of the text of events.

    Parameters
    ----------
    options : TextOptions
    complain : callable
        Gets what babeltrace2 says about times it cannot show.
    """

    def __init__(self, options: TextOptions, complain: Callable[[str], None]) -> None:
        self._options = options
        self._complain = complain
        self._before: int | None = None
        self._refused = False

    def cycles(self, events: Iterable[tuple[int, str]]) -> Iterator[str]:
        """Yield whole lines for events, each (clock cycles, text)."""
        before: int | None = None
        for cycles, text in events:
            since = ""
            if self._options.delta:
                # Clocks of several traces may differ: a number of 64 bits all the same.
                passed = "?" * 12 if before is None else f"{(cycles - before) % (1 << 64):012d}"
                since = f"(+{passed}) "
            yield f"[{cycles:020d}] {since}{text}"
            before = cycles

    def lines(self, events: Iterable[tuple[int, str]]) -> Iterator[str]:
        """Yield whole lines for events, each (nanoseconds since the epoch, text)."""
        shown = ""
        now = -1
        before = self._before
        delta = self._options.delta
        for nanoseconds, text in events:
            second, rest = divmod(nanoseconds, _SECOND)
            if second != now:
                # Below zero each time is written anew, its fraction counts backwards.
                shown, now = (self._seconds(second), second) if second >= 0 else ("", -1)
            if not shown:
                start = f"[{self.time(nanoseconds)}] "
                since = f"(+{_delta(nanoseconds, before)}) " if delta else ""
                yield f"{start}{since}{text}"
            elif not delta:
                yield f"[{shown}.{rest:09d}] {text}"
            elif before is not None and 0 <= (passed := nanoseconds - before) < _SECOND:
                yield f"[{shown}.{rest:09d}] (+0.{passed:09d}) {text}"
            else:
                yield f"[{shown}.{rest:09d}] (+{_delta(nanoseconds, before)}) {text}"
            before = self._before = nanoseconds

    def time(self, nanoseconds: int) -> str:
        """Return a time without brackets."""
        second, rest = divmod(abs(nanoseconds), _SECOND)
        if nanoseconds >= 0:
            return f"{self._seconds(second)}.{rest:09d}"
        # babeltrace2 falls back to seconds, but once only; then it takes the absolute value.
        if self._options.clock_seconds or not self._refused:
            if not self._options.clock_seconds:
                self._refused = True
                self._complain(
                    "[warning] Fallback to [sec.ns] to print negative time value. "
                    "Use --clock-seconds."
                )
            return f"-{second}.{rest:09d}"
        return f"{self._seconds(second)}.{rest:09d}"

    def _seconds(self, second: int) -> str:
        """Return a whole second as the options want it."""
        options = self._options
        if options.clock_seconds:
            return f"{second}"
        parts = time.gmtime(second) if options.clock_gmt else time.localtime(second)
        date = f"{parts.tm_year}-{parts.tm_mon:02d}-{parts.tm_mday:02d} "
        clock = f"{parts.tm_hour:02d}:{parts.tm_min:02d}:{parts.tm_sec:02d}"
        return date + clock if options.clock_date else clock


def _delta(nanoseconds: int, before: int | None) -> str:
    if before is None:
        return "?.?????????"
    second, rest = divmod(nanoseconds - before, _SECOND)
    return f"{second}.{rest:09d}"
