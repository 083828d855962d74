# SPDX-License-Identifier: MIT
"""Field descriptors written here by the offsets of lttng/ust-ctl.h (application facts, 5.4)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.ctf.types import (
    Array,
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
from ustconsumer.protocol.fields import MAX_NESTING, decode_entries, decode_fields


def described(name: str, atype: int, union: bytes = b"") -> bytes:
    return struct.pack("<256sI632s28x", name.encode(), atype, union)


def integer_type(
    size: int = 32,
    signed: int = 1,
    reverse: int = 0,
    base: int = 10,
    encoding: int = 0,
    alignment: int = 8,
) -> bytes:
    return struct.pack("<IIIIiH24x", size, signed, reverse, base, encoding, alignment)


def integer(name: str, *values: int) -> bytes:
    return described(name, 0, integer_type(*values))


def floating(name: str, exp_dig: int, mant_dig: int, reverse: int = 0, align: int = 8) -> bytes:
    return described(name, 5, struct.pack("<IIIH24x", exp_dig, mant_dig, reverse, align))


def variant(name: str, atype: int, count: int, tag: str) -> bytes:
    return described(name, atype, struct.pack("<I256sI", count, tag.encode(), 0))


def sequence(name: str, length_name: str, alignment: int = 0) -> bytes:
    return described(name, 10, struct.pack("<256sI", length_name.encode(), alignment))


U16 = (16, 0)
ELEMENT = integer("", 8)
INT = Integer(32, signed=True)


def test_nestable() -> None:
    raw = b"".join(
        (
            integer("i", 64, 0, 1, 16, 0),
            floating("f", 11, 53, 1),
            described("s", 4, struct.pack("<i", 2)),
            described("e", 8, struct.pack("<256sQ", b"p_colour", 1 << 40)),
            integer("", 8),
            described("a", 9, struct.pack("<II", 7, 2)),
            integer("", *U16),
            integer("_q_length", *U16),
            sequence("q", "_q_length", 4),
            ELEMENT,
            described("tag", 8, struct.pack("<256sQ", b"p_tag", 3)),
            integer("", 8),
            # The dynamic type of application contexts: number of a legacy variant.
            variant("v", 6, 3, "tag"),
            described("none", 11, struct.pack("<II", 0, 4)),
            variant("inner", 12, 1, "tag"),
            integer("x"),
            described("y", 4),
            described("empty", 7),
        )
    )
    byte, u16 = Integer(8, signed=True), Integer(16, signed=False)
    assert decode_fields(raw) == (
        Field("i", Integer(64, signed=False, base=16, reverse_byte_order=True)),
        Field("f", FloatingPoint(11, 53, reverse_byte_order=True)),
        Field("s", String("ASCII")),
        Field("e", Enumeration("p_colour", byte, 1 << 40)),
        Field("a", Array(u16, 7, alignment=2)),
        Field("_q_length", u16),
        Field("q", Sequence(byte, "_q_length", alignment=4)),
        Field("tag", Enumeration("p_tag", byte, 3)),
        Field(
            "v",
            Variant(
                "tag",
                (
                    Field("none", Struct(alignment=4)),
                    Field("inner", Variant("tag", (Field("x", INT),))),
                    Field("y", String("none")),
                ),
            ),
        ),
        Field("empty", Struct()),
    )


def test_legacy_types_are_the_same_as_nestable_ones() -> None:
    basic = struct.pack("<I312s", 0, integer_type(8))
    length = struct.pack("<I312s", 0, integer_type(*U16))
    enumeration = struct.pack("<256s46sxxQ", b"p_colour", integer_type(8), 1 << 40)
    legacy = b"".join(
        (
            described("e", 1, enumeration),
            described("a", 2, basic + struct.pack("<I", 7)),
            described("q", 3, length + basic),
            variant("v", 6, 1, "e"),
            described("empty", 7),
        )
    )
    nestable = b"".join(
        (
            described("e", 8, struct.pack("<256sQ", b"p_colour", 1 << 40)),
            ELEMENT,
            described("a", 9, struct.pack("<II", 7, 0)),
            ELEMENT,
            integer("_q_length", *U16),
            sequence("q", "_q_length"),
            ELEMENT,
            variant("v", 12, 1, "e"),
            described("empty", 11),
        )
    )
    assert decode_fields(legacy) == decode_fields(nestable)


def nested(depth: int) -> bytes:
    return b"".join(variant("v", 12, 1, "t") for _ in range(depth)) + integer("i")


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"x", "not whole ones"),
        (bytes(920 * 2049), "2049 field descriptors"),
        (described("f", 13), "unknown type 13"),
        (described("x" * 256, 0, integer_type()), "without its NUL"),
        (integer("f", 0), "integer of 0 bits"),
        (integer("f", 12), "integer of 12 bits"),
        (integer("f", 128), "integer of 128 bits"),
        (integer("f", 8, 0, 0, 3), "base 3"),
        (integer("f", 8, 0, 0, 10, 3), "encoding 3"),
        (integer("f", 8, 0, 0, 10, -1), "encoding -1"),
        (integer("f", 8, 0, 0, 10, 0, 0), "alignment of 0 bits"),
        (integer("f", 8, 0, 0, 10, 0, 24), "alignment of 24 bits"),
        (floating("f", 8, 25), "floating point"),
        (floating("f", 8, 24, 0, 3), "alignment of 3 bits"),
        (described("f", 4, struct.pack("<i", 9)), "encoding 9"),
        (described("f", 8, b"e"), "end inside a type"),
        (described("f", 8, b"e") + described("", 4), "type 4, not integer"),
        (described("f", 8, b"e" * 256) + ELEMENT, "without its NUL"),
        (described("f", 9, struct.pack("<II", 1, 3)) + ELEMENT, "alignment of 3 bytes"),
        (described("f", 9, struct.pack("<II", 1 << 31, 0)) + ELEMENT, "2147483648 elements"),
        (described("f", 9) + floating("", 8, 24), "not integer"),
        (sequence("q", "n") + ELEMENT, "not its length"),
        (integer("m", *U16) + sequence("q", "n") + ELEMENT, "not its length"),
        (integer("n", 16, 1) + sequence("q", "n") + ELEMENT, "not its length"),
        (integer("n", 24, 0) + sequence("q", "n") + ELEMENT, "not its length"),
        (integer("n", 16, 0, 1) + sequence("q", "n") + ELEMENT, "not its length"),
        (integer("n", *U16) + sequence("q", "n"), "end inside a type"),
        (described("f", 11, struct.pack("<I", 1)) + integer("i"), "structure 'f' with 1"),
        (described("f", 7, struct.pack("<I", 1)) + integer("i"), "structure 'f' with 1"),
        (variant("v", 12, 0, "t"), "0 choices"),
        (variant("v", 12, 2, "t") + integer("i"), "2 choices"),
        (variant("v", 12, 2**32 - 1, "t") + integer("i"), "4294967295 choices"),
        (nested(MAX_NESTING + 1), "nested more than"),
        (described("f", 2, struct.pack("<I", 5)), "elements of type 5"),
        (described("f", 3, struct.pack("<I312s", 0, integer_type())), "not an unsigned integer"),
    ],
)
def test_descriptors_that_make_no_sense(raw: bytes, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        decode_fields(raw)


def test_nesting_up_to_the_limit() -> None:
    (field,) = decode_fields(nested(MAX_NESTING))
    for _ in range(MAX_NESTING):
        assert isinstance(field.type, Variant)
        (field,) = field.type.choices
    assert field.type == INT


def test_text_that_is_no_utf_8_is_replaced() -> None:
    raw = struct.pack("<256sI632s28x", b"caf\xe9", 0, integer_type())
    assert decode_fields(raw) == (Field("caf\N{REPLACEMENT CHARACTER}", INT),)


@given(
    st.lists(
        st.builds(
            lambda atype, words: described("f", atype, struct.pack(f"<{len(words)}I", *words)),
            st.integers(0, 13),
            st.lists(st.sampled_from([0, 1, 2, 8, 10, 16, 32, 2**31, 2**32 - 1]), max_size=12),
        ),
        max_size=12,
    )
)
def test_random_descriptors(raw: list[bytes]) -> None:
    try:
        for field in decode_fields(b"".join(raw)):
            assert isinstance(field, Field)
    except RemoteProtocolError:
        pass


def test_entries_that_make_no_sense() -> None:
    entry = struct.pack("<QB15xQB15x256sI28x", 1, 0, 2, 0, b"x" * 256, 0)
    with pytest.raises(RemoteProtocolError, match="label 0"):
        decode_entries(entry)
    with pytest.raises(RemoteProtocolError, match="335 bytes"):
        decode_entries(entry[:-1])
    with pytest.raises(RemoteProtocolError):
        decode_entries(bytes(336 * 16385))
