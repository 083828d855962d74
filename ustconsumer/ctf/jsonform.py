# SPDX-License-Identifier: MIT
"""Records as what JSON can say, for programs in any language."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from ustconsumer.ctf.classes import EventClass, StreamClass, TraceClass
from ustconsumer.ctf.decode import Form, ValueWalk
from ustconsumer.ctf.types import EnumEntry, Integer
from ustconsumer.ctf.walk import Read, labels

__all__ = ["JsonForm", "Object"]

Object: TypeAlias = dict[str, Any]

#: What of a trace's environment says whose events these are.
_ORIGIN = ("hostname", "procname", "vpid")


class JsonForm(Form[Object]):
    """A record as an object: where it is from, ``event``, ``cpu_id``, ``context``, ``fields``.

    Enumerations are objects of ``value`` and ``labels``. Bytes that are not UTF-8 are
    replacement characters; numbers that are none, or infinite, are null.
    """

    def context(self, trace: TraceClass, stream: StreamClass, cpu_id: int) -> Read:
        walk = _JsonWalk(trace.enums)
        return walk.function(f"{cpu_id:d}, {walk.fields(stream.contexts)}")

    def payload(self, trace: TraceClass, event: EventClass) -> Callable[..., tuple[Object, int]]:
        walk = _JsonWalk(trace.enums)
        fields = walk.fields(event.fields)
        walk.line("cpu_id, values = context")
        origin = {name: _clean(trace.env[name]) for name in _ORIGIN if name in trace.env}
        return walk.function(
            f"{{**{walk.constant(origin)}, 'event': {walk.constant(_clean(event.name))}, "
            f"'cpu_id': cpu_id, 'context': values, 'fields': {fields}}}",
            ("context",),
        )


class _JsonWalk(ValueWalk):
    @staticmethod
    def make_text(raw: bytes) -> str:
        return raw.partition(b"\0")[0].decode("utf-8", "replace")

    def enumeration(self, type_: Integer, entries: tuple[EnumEntry, ...], value: str) -> str:
        return f"{self.constant(_EnumerationObjects(entries, type_))}[{value}]"

    def struct(self, names: list[str], members: list[str]) -> str:
        return super().struct([str(_clean(name)) for name in names], members)


class _EnumerationObjects(dict[int, Object]):
    """By value."""

    def __init__(self, entries: tuple[EnumEntry, ...], type_: Integer) -> None:
        self._entries = entries
        self._type = type_

    def __missing__(self, value: int) -> Object:
        if len(self) >= 1024:
            self.clear()
        known = [_clean(label) for label in labels(self._entries, self._type, value)]
        self[value] = result = {"value": value, "labels": known}
        return result


def _clean(text: int | str) -> int | str:
    """Return a text without the surrogates that stand for bytes that are not UTF-8."""
    if isinstance(text, int):
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
