# SPDX-License-Identifier: MIT
"""Tracepoints in the words of the protocol: fields as liblttng-ust would describe them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ustconsumer.ctf import types as ctf
from ustconsumer.protocol.tracer import field_entry
from ustconsumer.tracer.types import Enumeration, FieldType, Integer, Real, Sequence, Text

if TYPE_CHECKING:
    from typing import TypeAlias

    from ustconsumer.tracer.declared import Declared
    from ustconsumer.tracer.statedump import Builtin

    #: A tracepoint of the program, or one of the tracer's own.
    Described: TypeAlias = Declared | Builtin

__all__ = ["Enroll", "enum_entries", "fields", "listed"]

#: From an enumeration's name in the trace and its entries to its id in the registry.
Enroll = Callable[[str, tuple[ctf.EnumEntry, ...]], int]

_LENGTH = ctf.Integer(32, signed=False)
_REALS = {32: ctf.FloatingPoint(8, 24), 64: ctf.FloatingPoint(11, 53)}
# Kinds of a field in a list (LTTNG_UST_ABI_FIELD_*).
_OTHER, _INTEGER, _ENUM, _FLOAT, _STRING = range(5)


def fields(declared: Described, enroll: Enroll) -> tuple[ctf.Field, ...]:
    """Return the fields of a tracepoint's events; enumerations get their ids from ``enroll``."""
    described: tuple[ctf.Field, ...] | None = getattr(declared, "described", None)
    if described is not None:
        return described
    provider = declared.name.partition(":")[0]
    result: list[ctf.Field] = []
    for name, kind in declared.fields:
        result += _field(name, kind, provider, enroll)
    return tuple(result)


def _field(name: str, kind: FieldType, provider: str, enroll: Enroll) -> list[ctf.Field]:
    if isinstance(kind, Integer):
        return [ctf.Field(name, _integer(kind))]
    if isinstance(kind, Real):
        return [ctf.Field(name, _REALS[kind.size])]
    if isinstance(kind, Text):
        return [ctf.Field(name, ctf.String())]
    if isinstance(kind, Sequence):
        length = f"_{name}_length"
        elements = ctf.Sequence(_integer(kind.element), length)
        return [ctf.Field(length, _LENGTH), ctf.Field(name, elements)]
    if isinstance(kind, Enumeration):
        full = f"{provider}_{kind.name}"
        enum_id = enroll(full, enum_entries(kind))
        return [ctf.Field(name, ctf.Enumeration(full, _integer(kind.container), enum_id))]
    raise TypeError(f"{kind!r} cannot be described")


def _integer(kind: Integer) -> ctf.Integer:
    return ctf.Integer(kind.size, kind.signed, kind.base)


def enum_entries(kind: Enumeration) -> tuple[ctf.EnumEntry, ...]:
    """Return the entries of an enumeration as its registration has them."""
    return tuple(ctf.EnumEntry(label, first, last) for label, first, last in kind.entries)


def listed(name: str, loglevel: int, described: tuple[ctf.Field, ...]) -> list[bytes]:
    """Return the entries of a tracepoint in a field list: its last field first."""
    if not described:
        return [field_entry(name, "", _OTHER, loglevel, nowrite=True)]
    return [
        field_entry(name, field.name, _kind(field.type), loglevel) for field in reversed(described)
    ]


def _kind(type_: ctf.FieldType) -> int:
    if isinstance(type_, ctf.Integer):
        return _INTEGER
    if isinstance(type_, ctf.Enumeration):
        return _ENUM
    if isinstance(type_, ctf.FloatingPoint):
        return _FLOAT
    if isinstance(type_, ctf.Array | ctf.Sequence):
        return _STRING if type_.element.encoding != "none" else _OTHER
    return _STRING if isinstance(type_, ctf.String) else _OTHER
