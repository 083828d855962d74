# SPDX-License-Identifier: MIT
"""Field descriptors as a tracer writes them (application facts, 5.4)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from ustconsumer.protocol.descriptors import (
    DYNAMIC_ENTRIES,
    DYNAMIC_ENUM,
    dynamic_fields,
    encode_entries,
    encode_fields,
)
from ustconsumer.protocol.fields import decode_entries, decode_fields

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)
integers = st.builds(
    Integer,
    size=st.sampled_from([8, 16, 32, 64]),
    signed=st.booleans(),
    base=st.sampled_from([2, 8, 10, 16]),
    encoding=st.sampled_from(["none", "UTF8", "ASCII"]),
    alignment=st.just(8),
    reverse_byte_order=st.booleans(),
)
basics: st.SearchStrategy[FieldType] = st.one_of(
    integers,
    st.sampled_from([FloatingPoint(8, 24), FloatingPoint(11, 53), String(), String("ASCII")]),
    st.builds(Enumeration, names, integers, st.integers(0, 2**64 - 1)),
    st.builds(Array, integers, st.integers(0, 1 << 20), st.just(0)),
)
fields = st.builds(Field, names, basics)


def sequence(name: str, length: int, element: Integer) -> tuple[Field, ...]:
    count = f"_{name}_length"
    return Field(count, Integer(length, signed=False)), Field(name, Sequence(element, count))


groups = st.one_of(
    fields.map(lambda field: (field,)),
    st.builds(sequence, names, st.sampled_from([8, 32]), integers),
    st.builds(
        lambda name, choices: (Field(name, Variant("tag", tuple(choices))),),
        names,
        st.lists(fields | st.just(Field("none", Struct())), min_size=1, max_size=3),
    ),
)


@given(st.lists(groups, max_size=5))
def test_they_return_as_they_were(described: list[tuple[Field, ...]]) -> None:
    wanted = tuple(field for group in described for field in group)
    assert decode_fields(encode_fields(wanted)) == wanted


def entry(label: str, start: int, end: int) -> EnumEntry:
    return EnumEntry(label, start, end)


@given(
    st.lists(
        st.builds(entry, names, st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**63 - 1))
        | st.builds(entry, names, st.integers(2**63, 2**64 - 1), st.just(2**64 - 1))
        | st.builds(EnumEntry, names, st.just(0), st.just(0), st.just(True))
    )
)
def test_entries_return_as_they_were(entries: list[EnumEntry]) -> None:
    assert decode_entries(encode_entries(entries)) == tuple(entries)


def test_application_context_is_that_of_liblttng_ust() -> None:
    """Tag, then atype 6 in the nestable layout with twelve choices."""
    raw = encode_fields(dynamic_fields("$app.myprov:myctx", 3))
    size = 920
    descriptors = [raw[at : at + size] for at in range(0, len(raw), size)]
    assert [struct.unpack_from("<I", d, 256)[0] for d in descriptors] == [
        *(8, 0),
        6,
        11,
        *[0] * 8,
        *(5, 5),
        4,
    ]
    shown = [d[:256].rstrip(b"\0").decode() for d in descriptors]
    assert shown == [
        *("$app.myprov:myctx_tag", "", "$app.myprov:myctx"),
        *("none", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float", "double", "string"),
    ]
    count, tag, alignment = struct.unpack_from("<I256sI", descriptors[2], 260)
    assert (count, tag.rstrip(b"\0"), alignment) == (12, b"$app.myprov:myctx_tag", 0)
    assert DYNAMIC_ENUM == "dynamic_type_enum"
    assert [(entry.label, entry.start, entry.end) for entry in DYNAMIC_ENTRIES] == [
        (f"_{name}", number, number) for number, name in enumerate(shown[3:])
    ]


@pytest.mark.parametrize("name", ["x" * 256, "a\0b", "\N{EURO SIGN}" * 86])
def test_names_that_do_not_fit(name: str) -> None:
    with pytest.raises(LocalProtocolError, match="at most 255 bytes"):
        encode_fields([Field(name, String())])
    with pytest.raises(LocalProtocolError, match="at most 255 bytes"):
        encode_entries([EnumEntry(name, 0, 0)])
