# SPDX-License-Identifier: MIT
"""Field descriptors of the application protocol, to the types of ``ustconsumer.ctf``.

A descriptor is one fixed-size record; a nested type follows its holder in pre-order.
Whatever an application sends either becomes types that can be written as metadata,
or is a `RemoteProtocolError` that says which field makes no sense.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ustconsumer.abi.application import APPLICATION_LAYOUTS, AtypeNumber
from ustconsumer.abi.rows import Layout
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
from ustconsumer.errors import RemoteProtocolError

__all__ = ["MAX_ENTRIES", "MAX_FIELDS", "MAX_NESTING", "decode_entries", "decode_fields", "text"]

#: Descriptors of one event or channel; a tracepoint has at most some tens of fields.
MAX_FIELDS = 2048
#: Entries of one enumeration.
MAX_ENTRIES = 16384
#: Types inside types; the tracer nests one struct in one variant.
MAX_NESTING = 8
#: Elements of a fixed array: a record cannot be larger than a sub-buffer.
MAX_LENGTH = 1 << 28

_ENCODINGS = {0: "none", 1: "UTF8", 2: "ASCII"}
_BASES = (2, 8, 10, 16)
_AUTOMATIC = 1  # lttng_ust_ctl_ust_enum_entry_options


def text(raw: bytes, what: str) -> str:
    """Return the string in a fixed-size array.

    Raises
    ------
    RemoteProtocolError
        No NUL in the array. Bytes that are no UTF-8 are replaced, not refused.
    """
    end = raw.find(b"\0")
    if end < 0:
        raise RemoteProtocolError(f"{what}: text of {len(raw)} bytes without its NUL")
    return raw[:end].decode("utf-8", "replace")


def decode_fields(raw: bytes | memoryview, major: int = 9) -> tuple[Field, ...]:
    """Return the fields that descriptors describe.

    Parameters
    ----------
    raw : bytes-like
        Whole descriptors, one after the other.
    major : int
        ABI of the application.

    Raises
    ------
    RemoteProtocolError
        Cut off, nested too deeply, an unknown kind, or numbers out of range.
    """
    decoder = _Decoder(memoryview(raw), APPLICATION_LAYOUTS[major].fields)
    fields: list[Field] = []
    while not decoder.done():
        fields += decoder.fields(0, fields)
    return tuple(fields)


def decode_entries(raw: bytes | memoryview, major: int = 9) -> tuple[EnumEntry, ...]:
    """Return the entries of an enumeration.

    Raises
    ------
    RemoteProtocolError
        Not whole entries, too many, or a label without its NUL.
    """
    layout = APPLICATION_LAYOUTS[major].enum_entry
    count, rest = divmod(len(raw), layout.size)
    if rest or count > MAX_ENTRIES:
        raise RemoteProtocolError(f"enumeration entries of {len(raw)} bytes")
    entries = []
    for index in range(count):
        values = layout.get_all(raw, index * layout.size)
        label = text(values["label"], f"label {index} of an enumeration")
        if values["options"] & _AUTOMATIC:
            # The tracer sends -1: readers number the label, from the one before.
            entries.append(EnumEntry(label, 0, 0, automatic=True))
        else:
            start = _signed(values["start"], values["start_signed"])
            end = _signed(values["end"], values["end_signed"])
            entries.append(EnumEntry(label, start, end))
    return tuple(entries)


def _signed(value: int, signed: int) -> int:
    return value - (1 << 64) if signed and value >> 63 else value


class _Decoder:
    """Walks descriptors in pre-order."""

    def __init__(self, raw: memoryview, layouts: dict[int, Layout]):
        size = layouts[AtypeNumber.INTEGER].size
        self._raw = raw
        self._layouts = layouts
        self._size = size
        count, rest = divmod(len(raw), size)
        if rest:
            raise RemoteProtocolError(f"field descriptors of {len(raw)} bytes: not whole ones")
        if count > MAX_FIELDS:
            raise RemoteProtocolError(f"{count} field descriptors: more than {MAX_FIELDS}")
        self._count = count
        self._next = 0

    def done(self) -> bool:
        return self._next == self._count

    def fields(self, depth: int, before: list[Field]) -> list[Field]:
        """Return what the next descriptor describes: one field, two for a legacy sequence.

        ``before`` are the fields of the same structure decoded so far, in which a
        sequence finds its length.
        """
        if depth > MAX_NESTING:
            raise RemoteProtocolError(f"field types nested more than {MAX_NESTING} deep")
        values = self._take()
        name = text(values["name"], f"name of field descriptor {self._next - 1}")
        atype: int = values["atype"]
        if atype == AtypeNumber.LEGACY_SEQUENCE:
            return _legacy_sequence(name, values)
        if atype == AtypeNumber.SEQUENCE:
            return [Field(name, self._sequence(name, values, before))]
        if atype in _SIMPLE:
            return [Field(name, _SIMPLE[atype](name, values))]
        return [Field(name, _NESTED[atype](self, name, values, depth))]

    def _take(self) -> dict[str, Any]:
        if self.done():
            raise RemoteProtocolError("field descriptors end inside a type")
        base = self._next * self._size
        self._next += 1
        atype = self._layouts[AtypeNumber.INTEGER].get(self._raw, base, "atype")
        layout = self._layouts.get(atype)
        if layout is None:
            raise RemoteProtocolError(f"field descriptor {self._next - 1}: unknown type {atype}")
        return layout.get_all(self._raw, base)

    def _integer(self, what: str) -> Integer:
        """Return the integer that is the whole next descriptor: an element, a container."""
        values = self._take()
        if values["atype"] != AtypeNumber.INTEGER:
            raise RemoteProtocolError(
                f"{what}: its element is of type {values['atype']}, not integer"
            )
        return _integer(what, values)

    def _sequence(self, name: str, values: dict[str, Any], before: list[Field]) -> Sequence:
        length_name = text(values["length_name"], f"length of sequence {name!r}")
        last = before[-1] if before else None
        if last is None or last.name != length_name or not _counts(last.type):
            raise RemoteProtocolError(
                f"sequence {name!r}: the field before it is not its length {length_name!r}"
            )
        alignment = _alignment(name, values["alignment"])
        return Sequence(self._integer(name), length_name, alignment)

    def enumeration(self, name: str, values: dict[str, Any], depth: int) -> Enumeration:
        enum_name = text(values["enum_name"], f"enumeration of field {name!r}")
        return Enumeration(enum_name, self._integer(name), values["enum_id"])

    def array(self, name: str, values: dict[str, Any], depth: int) -> Array:
        alignment = _alignment(name, values["alignment"])
        return Array(self._integer(name), _length(name, values["length"]), alignment)

    def structure(self, name: str, values: dict[str, Any], depth: int) -> Struct:
        # lttng-sessiond knows only the empty one, no tracer sends another.
        if values["count"]:
            raise RemoteProtocolError(f"structure {name!r} with {values['count']} fields")
        return Struct((), _alignment(name, values.get("alignment", 0)))

    def variant(self, name: str, values: dict[str, Any], depth: int) -> Variant:
        tag_name = text(values["tag_name"], f"tag of variant {name!r}")
        if not 1 <= values["count"] <= self._count - self._next:
            raise RemoteProtocolError(f"variant {name!r} with {values['count']} choices")
        choices: list[Field] = []
        for _ in range(values["count"]):
            choice = self.fields(depth + 1, [])
            if len(choice) != 1:
                raise RemoteProtocolError(f"variant {name!r}: a sequence is no choice")
            choices += choice
        return Variant(tag_name, tuple(choices), _alignment(name, values.get("alignment", 0)))


def _integer(what: str, values: dict[str, Any], prefix: str = "") -> Integer:
    size: int = values[prefix + "size"]
    base: int = values[prefix + "base"]
    encoding: int = values[prefix + "encoding"]
    if not 8 <= size <= 64 or size % 8:
        raise RemoteProtocolError(f"field {what!r}: integer of {size} bits")
    if base not in _BASES or encoding not in _ENCODINGS:
        raise RemoteProtocolError(f"field {what!r}: base {base}, encoding {encoding}")
    return Integer(
        size=size,
        signed=bool(values[prefix + "signed"]),
        base=base,
        encoding=_ENCODINGS[encoding],
        alignment=_bit_alignment(what, values[prefix + "alignment"]),
        reverse_byte_order=bool(values[prefix + "reverse_byte_order"]),
    )


def _floating_point(what: str, values: dict[str, Any]) -> FloatingPoint:
    digits = (values["exp_dig"], values["mant_dig"])
    if digits not in ((5, 11), (8, 24), (11, 53), (15, 113)):
        raise RemoteProtocolError(f"field {what!r}: floating point number of {digits} digits")
    return FloatingPoint(
        *digits,
        alignment=_bit_alignment(what, values["alignment"]),
        reverse_byte_order=bool(values["reverse_byte_order"]),
    )


def _string(what: str, values: dict[str, Any]) -> String:
    encoding: int = values["encoding"]
    if encoding not in _ENCODINGS:
        raise RemoteProtocolError(f"field {what!r}: string of encoding {encoding}")
    return String(_ENCODINGS[encoding])


def _legacy_enumeration(name: str, values: dict[str, Any]) -> Enumeration:
    enum_name = text(values["enum_name"], f"enumeration of field {name!r}")
    return Enumeration(enum_name, _integer(name, values, "container_"), values["enum_id"])


def _legacy_array(name: str, values: dict[str, Any]) -> Array:
    return Array(_basic(name, values, "element_"), _length(name, values["length"]))


def _legacy_sequence(name: str, values: dict[str, Any]) -> list[Field]:
    # Today's tracers describe the length as a field of its own, under this name.
    length = Field(f"_{name}_length", _basic(name, values, "length_"))
    if not _counts(length.type):
        raise RemoteProtocolError(f"sequence {name!r}: its length is not an unsigned integer")
    return [length, Field(name, Sequence(_basic(name, values, "element_"), length.name))]


def _basic(name: str, values: dict[str, Any], prefix: str) -> Integer:
    if values[prefix + "atype"] != AtypeNumber.INTEGER:
        raise RemoteProtocolError(f"field {name!r}: elements of type {values[prefix + 'atype']}")
    return _integer(name, values, prefix)


def _counts(type_: FieldType) -> bool:
    """Tell whether a field can be the length of a sequence."""
    return (
        isinstance(type_, Integer)
        and not type_.signed
        and not type_.reverse_byte_order
        and type_.size in (8, 16, 32, 64)
    )


def _bit_alignment(what: str, bits: int) -> int:
    if not 1 <= bits <= 1024 or bits & (bits - 1):
        raise RemoteProtocolError(f"field {what!r}: alignment of {bits} bits")
    return bits


def _alignment(what: str, size: int) -> int:
    if size > 128 or size & (size - 1):
        raise RemoteProtocolError(f"field {what!r}: alignment of {size} bytes")
    return size


def _length(what: str, length: int) -> int:
    if length > MAX_LENGTH:
        raise RemoteProtocolError(f"array {what!r} of {length} elements")
    return length


_SIMPLE: dict[int, Callable[[str, dict[str, Any]], FieldType]] = {
    AtypeNumber.INTEGER: _integer,
    AtypeNumber.FLOAT: _floating_point,
    AtypeNumber.STRING: _string,
    AtypeNumber.LEGACY_ENUM: _legacy_enumeration,
    AtypeNumber.LEGACY_ARRAY: _legacy_array,
}
_NESTED: dict[int, Callable[[_Decoder, str, dict[str, Any], int], FieldType]] = {
    AtypeNumber.ENUM: _Decoder.enumeration,
    AtypeNumber.ARRAY: _Decoder.array,
    AtypeNumber.STRUCT: _Decoder.structure,
    AtypeNumber.VARIANT: _Decoder.variant,
    AtypeNumber.LEGACY_STRUCT: _Decoder.structure,
    AtypeNumber.LEGACY_VARIANT: _Decoder.variant,
}
