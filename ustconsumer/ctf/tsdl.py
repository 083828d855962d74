# SPDX-License-Identifier: MIT
"""Declarations of fields in TSDL, the way lttng-sessiond 2.13 writes them.

To add a type: a class in `ustconsumer.ctf.types`, a method and a table entry here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ustconsumer.ctf.types import (
    Array,
    EnumEntry,
    Enumeration,
    Field,
    FloatingPoint,
    Integer,
    Sequence,
    String,
    Struct,
    Variant,
)
from ustconsumer.errors import RemoteProtocolError

__all__ = ["declarations"]

Enums = Mapping[int, Iterable[EnumEntry]]


def declarations(fields: Iterable[Field], enums: Enums, indent: int) -> str:
    """Return the members of a structure, a line or more each.

    Parameters
    ----------
    enums : mapping of int to entries
        Enumerations the fields may refer to, by id.
    indent : int
        Tabs in front of each line.

    Raises
    ------
    RemoteProtocolError
        A field refers to an enumeration that is not in ``enums``.
    """
    return "".join(f"{line}\n" for field in fields for line in _lines(field, enums, "\t" * indent))


def _identifier(name: str) -> str:
    """Return a name as TSDL has it: one ``_`` in front, so that no name is a keyword."""
    # A context "$app.provider:type" becomes __app_provider_type.
    return "_" + re.sub(r"[^A-Za-z0-9_]", "_", name)


def _lines(field: Field, enums: Enums, tabs: str) -> Iterator[str]:
    return _WRITERS[type(field.type)](field.type, field.name, enums, tabs)


def _integer_type(type_: Integer) -> str:
    return (
        f"integer {{ size = {type_.size}; align = {type_.alignment}; "
        f"signed = {type_.signed:d}; encoding = {type_.encoding}; base = {type_.base};"
        f"{_byte_order(type_.reverse_byte_order)} }}"
    )


def _byte_order(reverse: bool) -> str:
    return " byte_order = be;" if reverse else ""


def _integer(type_: Integer, name: str, enums: Enums, tabs: str) -> Iterator[str]:
    yield f"{tabs}{_integer_type(type_)} {_identifier(name)};"


def _floating_point(type_: FloatingPoint, name: str, enums: Enums, tabs: str) -> Iterator[str]:
    yield (
        f"{tabs}floating_point {{ exp_dig = {type_.exp_dig}; mant_dig = {type_.mant_dig}; "
        f"align = {type_.alignment};{_byte_order(type_.reverse_byte_order)} }} "
        f"{_identifier(name)};"
    )


def _string(type_: String, name: str, enums: Enums, tabs: str) -> Iterator[str]:
    encoding = " { encoding = ASCII; }" if type_.encoding == "ASCII" else ""
    yield f"{tabs}string{encoding} {_identifier(name)};"


def _padding(alignment: int, name: str, tabs: str) -> Iterator[str]:
    if alignment:
        yield f"{tabs}struct {{ }} align({8 * alignment}) {_identifier(name)}_padding;"


def _array(type_: Array, name: str, enums: Enums, tabs: str) -> Iterator[str]:
    yield from _padding(type_.alignment, name, tabs)
    yield f"{tabs}{_integer_type(type_.element)} {_identifier(name)}[{type_.length}];"


def _sequence(type_: Sequence, name: str, enums: Enums, tabs: str) -> Iterator[str]:
    yield from _padding(type_.alignment, name, tabs)
    length = _identifier(type_.length_name)
    yield f"{tabs}{_integer_type(type_.element)} {_identifier(name)}[ {length} ];"


def _enumeration(type_: Enumeration, name: str, enums: Enums, tabs: str) -> Iterator[str]:
    entries = enums.get(type_.enum_id)
    if entries is None:
        raise RemoteProtocolError(
            f"field {name!r}: enumeration {type_.name!r} with id {type_.enum_id} is not registered"
        )
    yield f"{tabs}enum : {_integer_type(type_.container)} {{"
    for entry in entries:
        label = re.sub(r'(["\\])', r"\\\1", entry.label).replace("\n", "\\n")
        yield f'{tabs}\t"{label}"{_values(entry)},'
    yield f"{tabs}}} {_identifier(name)};"


def _values(entry: EnumEntry) -> str:
    if entry.automatic:
        return ""
    return f" = {entry.start}" if entry.start == entry.end else f" = {entry.start} ... {entry.end}"


def _struct(type_: Struct, name: str, enums: Enums, tabs: str) -> Iterator[str]:
    align = f" align({8 * type_.alignment})" if type_.alignment else ""
    if not type_.fields:
        yield f"{tabs}struct {{}}{align} {_identifier(name)};"
        return
    yield f"{tabs}struct {{"
    for field in type_.fields:
        yield from _lines(field, enums, tabs + "\t")
    yield f"{tabs}}}{align} {_identifier(name)};"


def _variant(type_: Variant, name: str, enums: Enums, tabs: str) -> Iterator[str]:
    yield from _padding(type_.alignment, name, tabs)
    yield f"{tabs}variant <{_identifier(type_.tag_name)}> {{"
    for choice in type_.choices:
        yield from _lines(choice, enums, tabs + "\t")
    yield f"{tabs}}} {_identifier(name)};"


_WRITERS: dict[type, Callable[[Any, str, Enums, str], Iterator[str]]] = {
    Integer: _integer,
    FloatingPoint: _floating_point,
    String: _string,
    Array: _array,
    Sequence: _sequence,
    Enumeration: _enumeration,
    Struct: _struct,
    Variant: _variant,
}
