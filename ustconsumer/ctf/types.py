# SPDX-License-Identifier: MIT
"""Field types of an event record, as an application describes them.

Plain values: `ustconsumer.protocol.fields` makes them from field descriptors,
`ustconsumer.ctf.metadata` writes them as TSDL, `ustconsumer.ctf.skip` measures them.
Names are the tracer's own, without the leading ``_`` that TSDL adds. Named tuples: a
traced Python program loads them too, and should load little else.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

__all__ = [
    "Array",
    "EnumEntry",
    "Enumeration",
    "Field",
    "FieldType",
    "FloatingPoint",
    "Integer",
    "Sequence",
    "String",
    "Struct",
    "Variant",
]


class Integer(NamedTuple):
    """A whole number of ``size`` bits, aligned on ``alignment`` bits."""

    size: int
    signed: bool
    base: int = 10
    #: "none", or the character encoding of the text whose unit this is: "UTF8", "ASCII"
    encoding: str = "none"
    alignment: int = 8
    #: declared in the other byte order than the trace's; the bytes are stored as given
    reverse_byte_order: bool = False


class FloatingPoint(NamedTuple):
    """IEEE 754; ``mant_dig`` counts the hidden bit, so the two add up to the size in bits."""

    exp_dig: int
    mant_dig: int
    alignment: int = 8
    reverse_byte_order: bool = False


class String(NamedTuple):
    """Bytes up to and with a NUL."""

    encoding: str = "UTF8"


class Array(NamedTuple):
    """``length`` integers; ``alignment`` in bytes before the first, 0 where there is none."""

    element: Integer
    length: int
    alignment: int = 0


class Sequence(NamedTuple):
    """As many integers as the field ``length_name``, declared just before, says."""

    element: Integer
    length_name: str
    alignment: int = 0


class EnumEntry(NamedTuple):
    """A label for the values from ``start`` to ``end``, both included.

    An ``automatic`` one has neither (both 0): its value is one more than the entry before
    it ends with, 0 for the first.
    """

    label: str
    start: int
    end: int
    automatic: bool = False


class Enumeration(NamedTuple):
    """An integer with labels; ``enum_id`` is what the registry answered for its entries."""

    name: str
    container: Integer
    enum_id: int


class Struct(NamedTuple):
    """A group of fields. The tracer uses the empty one only, as an option of a variant."""

    fields: tuple[Field, ...] = ()
    alignment: int = 0


class Variant(NamedTuple):
    """One of the choices, selected by the enumeration field ``tag_name``."""

    tag_name: str
    choices: tuple[Field, ...]
    alignment: int = 0


class Field(NamedTuple):
    """A named member of a record."""

    name: str
    type: FieldType


FieldType: TypeAlias = (
    Integer | FloatingPoint | String | Array | Sequence | Enumeration | Struct | Variant
)
