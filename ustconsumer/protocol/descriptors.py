# SPDX-License-Identifier: MIT
"""Types of ``ustconsumer.ctf`` to field descriptors: what a tracer sends.

The way back is `ustconsumer.protocol.fields`. Written as liblttng-ust 2.13 writes them,
byte for byte: a registry may compare what two applications send.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ustconsumer.abi.application import APPLICATION_LAYOUTS, AtypeNumber
from ustconsumer.ctf.types import (
    Array,
    EnumEntry,
    Enumeration,
    Field,
    FieldType,
    FloatingPoint,
    Integer,
    Sequence,
    String,
    Struct,
    Variant,
)
from ustconsumer.errors import LocalProtocolError

__all__ = [
    "DYNAMIC_ENTRIES",
    "DYNAMIC_ENUM",
    "dynamic_fields",
    "encode_entries",
    "encode_fields",
    "fixed_text",
]

_LAYOUTS = APPLICATION_LAYOUTS[9]
_ENCODINGS = {"none": 0, "UTF8": 1, "ASCII": 2}
_AUTOMATIC = 1  # lttng_ust_ctl_ust_enum_entry_options
_U64 = (1 << 64) - 1


def fixed_text(value: str, size: int, what: str) -> bytes:
    """Return text for an array of ``size`` bytes, which holds its NUL too.

    Raises
    ------
    LocalProtocolError
        It does not fit, or holds a NUL.
    """
    raw = value.encode("utf-8", "surrogateescape")
    if len(raw) >= size or b"\0" in raw:
        raise LocalProtocolError(f"{what} {value!r}: at most {size - 1} bytes, none of them NUL")
    return raw


# -- what an application context may be ---------------------------------------------

#: Name of the enumeration below in every session of every application.
DYNAMIC_ENUM = "dynamic_type_enum"
_DYNAMIC: tuple[tuple[str, FieldType], ...] = (
    ("none", Struct()),
    *((f"int{size}", Integer(size, signed=True)) for size in (8, 16, 32, 64)),
    *((f"uint{size}", Integer(size, signed=False)) for size in (8, 16, 32, 64)),
    ("float", FloatingPoint(8, 24)),
    ("double", FloatingPoint(11, 53)),
    ("string", String()),
)
#: Which choice of an application context's value is the recorded one.
DYNAMIC_ENTRIES = tuple(
    EnumEntry(f"_{name}", number, number) for number, (name, _) in enumerate(_DYNAMIC)
)


def dynamic_fields(name: str, enum_id: int) -> tuple[Field, ...]:
    """Return the two fields of an application context: which type, and the value.

    Parameters
    ----------
    name : str
        ``$app.provider:context``.
    enum_id : int
        What the registry answered for `DYNAMIC_ENUM` with `DYNAMIC_ENTRIES`.
    """
    tag = Enumeration(DYNAMIC_ENUM, Integer(8, signed=True), enum_id)
    choices = tuple(Field(label, type_) for label, type_ in _DYNAMIC)
    return Field(f"{name}_tag", tag), Field(name, Variant(f"{name}_tag", choices))


# -- descriptors --------------------------------------------------------------------


def encode_fields(fields: Iterable[Field]) -> bytes:
    """Return the descriptors of fields, types inside a type after the one that holds them."""
    return b"".join(_field(field.name, field.type) for field in fields)


def encode_entries(entries: Iterable[EnumEntry]) -> bytes:
    """Return the entries of an enumeration."""
    return b"".join(_entry(entry) for entry in entries)


def _entry(entry: EnumEntry) -> bytes:
    layout = _LAYOUTS.enum_entry
    # Both ends of an automatic one are -1: whoever reads the trace numbers it.
    start, end = (-1, -1) if entry.automatic else (entry.start, entry.end)
    signed = int(not entry.automatic and start < 1 << 63 and end < 1 << 63)
    return layout.pack(
        {
            "start": start & _U64,
            "start_signed": signed,
            "end": end & _U64,
            "end_signed": signed,
            "label": fixed_text(entry.label, layout.field_size("label"), "label"),
            "options": _AUTOMATIC if entry.automatic else 0,
        }
    )


def _field(name: str, type_: FieldType) -> bytes:
    if isinstance(type_, Integer):
        return _described(name, AtypeNumber.INTEGER, _integer(type_))
    if isinstance(type_, FloatingPoint):
        return _described(name, AtypeNumber.FLOAT, _floating_point(type_))
    if isinstance(type_, String):
        return _described(name, AtypeNumber.STRING, {"encoding": _ENCODINGS[type_.encoding]})
    if isinstance(type_, Enumeration):
        values: dict[str, Any] = {"enum_name": _text(type_.name), "enum_id": type_.enum_id}
        return _described(name, AtypeNumber.ENUM, values) + _field("", type_.container)
    if isinstance(type_, Array):
        values = {"length": type_.length, "alignment": type_.alignment}
        return _described(name, AtypeNumber.ARRAY, values) + _field("", type_.element)
    if isinstance(type_, Sequence):
        values = {"length_name": _text(type_.length_name), "alignment": type_.alignment}
        return _described(name, AtypeNumber.SEQUENCE, values) + _field("", type_.element)
    if isinstance(type_, Struct):
        values = {"count": len(type_.fields), "alignment": type_.alignment}
        return _described(name, AtypeNumber.STRUCT, values) + encode_fields(type_.fields)
    return _variant(name, type_)


def _variant(name: str, type_: Variant) -> bytes:
    values = {
        "count": len(type_.choices),
        "tag_name": _text(type_.tag_name),
        "alignment": type_.alignment,
    }
    raw = bytearray(_described(name, AtypeNumber.VARIANT, values))
    # The tracer calls it the legacy one (6), whose members are at the same places, and
    # lttng-sessiond compares descriptors of programs that share buffers.
    _LAYOUTS.fields[AtypeNumber.VARIANT].put(raw, 0, "atype", AtypeNumber.LEGACY_VARIANT)
    return bytes(raw) + encode_fields(type_.choices)


def _described(name: str, atype: int, values: dict[str, Any]) -> bytes:
    return _LAYOUTS.fields[atype].pack({"name": _text(name), "atype": atype, **values})


def _text(value: str) -> bytes:
    return fixed_text(value, _LAYOUTS.fields[0].field_size("name"), "name")


def _integer(type_: Integer) -> dict[str, Any]:
    return {
        "size": type_.size,
        "signed": int(type_.signed),
        "reverse_byte_order": int(type_.reverse_byte_order),
        "base": type_.base,
        "encoding": _ENCODINGS[type_.encoding],
        "alignment": type_.alignment,
    }


def _floating_point(type_: FloatingPoint) -> dict[str, Any]:
    return {
        "exp_dig": type_.exp_dig,
        "mant_dig": type_.mant_dig,
        "reverse_byte_order": int(type_.reverse_byte_order),
        "alignment": type_.alignment,
    }
