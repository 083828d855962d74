# SPDX-License-Identifier: MIT
"""Records built here byte by byte, and what becomes of them."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.ctf.classes import Clock, EventClass, StreamClass, TraceClass
from ustconsumer.ctf.decode import VALUES, Enumerated, Record, StreamDecoder
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
from ustconsumer.errors import DecodeError

#: Anything: decoders begin where they are told.
HEADER = b"\xa5" * 84
U8 = Integer(8, signed=False)
U16 = Integer(16, signed=False)
U32 = Integer(32, signed=False)
CHAR = Integer(8, signed=True, encoding="UTF8")
ENUMS = {
    0: (EnumEntry("_none", 0, 0), EnumEntry("_number", 1, 1), EnumEntry("plain", 2, 2)),
    1: (
        EnumEntry("low", 0, 9),
        EnumEntry("odd", 3, 3),
        EnumEntry("low", 20, 29),
        EnumEntry("minus", -3, -3),
    ),
    2: (EnumEntry("minus", -3, -3), EnumEntry("top", 1 << 63, (1 << 64) - 1)),
}


def trace(*fields: Field, contexts: tuple[Field, ...] = ()) -> TraceClass:
    """Return a trace of one stream class with one event class, each with id 0."""
    return TraceClass(
        bytes(16),
        {},
        Clock("monotonic", 1_000_000_000, 0),
        {0: StreamClass(0, False, contexts)},
        {0: {0: EventClass(0, 0, "p:e", 13, "", fields)}},
        ENUMS,
    )


def compact(time: int, payload: bytes, event_id: int = 0) -> bytes:
    return struct.pack("<HI", event_id, time) + payload


def extended(time: int, payload: bytes, event_id: int = 0) -> bytes:
    return struct.pack("<HIQ", 65535, event_id, time) + payload


def decode(declared: TraceClass, *records: bytes, clock: int = 0) -> list[tuple[int, Record]]:
    decoder = StreamDecoder(declared, 0, VALUES)
    return list(decoder.records(HEADER + b"".join(records), len(HEADER), clock, 3, "channel0_0"))


def values(payload: bytes, *fields: Field) -> dict[str, Any]:
    ((_, record),) = decode(trace(*fields), compact(0, payload))
    return dict(record.fields)


def value(payload: bytes, type_: FieldType) -> Any:
    """Return the value of a field with a known one behind, to see that it ends where it should."""
    fields = values(payload + b"\x2a", Field("x", type_), Field("behind", U8))
    assert fields["behind"] == 42
    return fields["x"]


@pytest.mark.parametrize("size", range(8, 65, 8))
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("order", ["little", "big"])
@given(st.data())
def test_integer(size: int, signed: bool, order: Any, data: st.DataObject) -> None:
    bounds = (-(1 << size - 1), (1 << size - 1) - 1) if signed else (0, (1 << size) - 1)
    number = data.draw(st.integers(*bounds))
    raw = number.to_bytes(size // 8, order, signed=signed)
    assert value(raw, Integer(size, signed, reverse_byte_order=order == "big")) == number


def test_byte_orders_next_to_each_other() -> None:
    fields = values(
        bytes(range(1, 12)),
        Field("a", U16),
        Field("b", Integer(16, signed=False, reverse_byte_order=True)),
        Field("c", U8),
        Field("d", Integer(32, signed=False, reverse_byte_order=True)),
        Field("e", U16),
    )
    assert fields == {"a": 0x0201, "b": 0x0304, "c": 5, "d": 0x06070809, "e": 0x0B0A}


@pytest.mark.parametrize(
    ("type_", "code"),
    [
        (FloatingPoint(8, 24), "<f"),
        (FloatingPoint(11, 53), "<d"),
        (FloatingPoint(8, 24, reverse_byte_order=True), ">f"),
        (FloatingPoint(11, 53, reverse_byte_order=True), ">d"),
    ],
)
def test_floating_point(type_: FloatingPoint, code: str) -> None:
    for number in (0.0, -1.5, float("inf"), 0.15625):
        assert value(struct.pack(code, number), type_) == number


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"\0", ""), (b"h\xc3\xa9llo\0", "héllo"), (b"\xff\xfe\0", "\udcff\udcfe")],
)
def test_string(raw: bytes, text: str) -> None:
    assert value(raw, String()) == text


def test_arrays() -> None:
    assert value(b"\1\2\3\4\5\6", Array(U16, 3)) == [0x0201, 0x0403, 0x0605]
    assert value(b"\xff\1", Array(Integer(8, signed=True), 2)) == [-1, 1]
    assert value(b"", Array(U8, 0)) == []
    big = Integer(24, signed=False, reverse_byte_order=True)
    assert value(b"\0\0\1\0\0\2", Array(big, 2)) == [1, 2]
    assert value(b"ab\0def", Array(CHAR, 6)) == "ab"
    assert value(b"abcdef", Array(CHAR, 6)) == "abcdef"


@pytest.mark.parametrize("width", [8, 16, 32, 64])
@pytest.mark.parametrize("count", [0, 1, 3, 200])
def test_sequence(width: int, count: int) -> None:
    length = Field("_s_length", Integer(width, signed=False))
    raw = count.to_bytes(width // 8, "little")
    numbers = list(range(count))
    for element, size in ((U8, 1), (U16, 2), (Integer(24, signed=False), 3)):
        packed = b"".join(number.to_bytes(size, "little") for number in numbers)
        fields = values(raw + packed, length, Field("s", Sequence(element, "_s_length")))
        assert fields == {"_s_length": count, "s": numbers}
    fields = values(raw + b"x" * count, length, Field("s", Sequence(CHAR, "_s_length")))
    assert fields == {"_s_length": count, "s": "x" * count}


@pytest.mark.parametrize(
    ("number", "signed", "labels"),
    [
        (3, False, ("low", "odd")),
        (25, False, ("low",)),
        (10, False, ()),
        (253, False, ()),
        (-3, True, ("minus",)),
    ],
)
def test_enumeration(number: int, signed: bool, labels: tuple[str, ...]) -> None:
    raw = number.to_bytes(1, "little", signed=signed)
    result = value(raw, Enumeration("e", Integer(8, signed), 1))
    assert (result, result.labels) == (number, labels)
    assert isinstance(result, Enumerated)


def test_ranges_are_numbers_of_64_bits() -> None:
    raw = struct.pack("<Q", (1 << 64) - 3)
    result = value(raw, Enumeration("e", Integer(64, signed=False), 2))
    assert result.labels == ("minus", "top")


@pytest.mark.parametrize(
    ("tag", "raw", "result"), [(0, b"", {}), (1, b"\7\0", 7), (2, b"text\0", "text")]
)
def test_variant(tag: int, raw: bytes, result: object) -> None:
    variant = Variant(
        "v_tag", (Field("none", Struct()), Field("number", U16), Field("plain", String()))
    )
    fields = (Field("v_tag", Enumeration("", U8, 0)), Field("v", variant), Field("z", U8))
    assert values(bytes([tag]) + raw + b"\1", *fields) == {"v_tag": tag, "v": result, "z": 1}


def test_structure() -> None:
    inner = Struct((Field("a", U8), Field("b", String())))
    assert value(b"\1x\0", inner) == {"a": 1, "b": "x"}


def test_alignment() -> None:
    # The payload begins at byte 90, and is aligned as its most demanding member: byte 96.
    fields = values(
        b"-" * 6 + b"\1\2" + b"-" * 6 + struct.pack("<Q", 5),
        Field("a", U8),
        Field("s", Struct((Field("b", U8),))),
        Field("c", Integer(64, signed=False, alignment=64)),
    )
    assert fields == {"a": 1, "s": {"b": 2}, "c": 5}


def test_padding_is_within_the_packet() -> None:
    # The payload begins at byte 96.
    fields = (Field("a", U8), Field("s", Struct((), alignment=8)))
    assert values(b"-" * 6 + b"\1" + b"-" * 7, *fields) == {"a": 1, "s": {}}
    with pytest.raises(DecodeError, match="leaves its packet"):
        values(b"-" * 6 + b"\1" + b"-" * 6, *fields)


def test_length_outside_of_the_structure() -> None:
    inner = Struct((Field("m", U8), Field("s", Sequence(U8, "n"))))
    fields = values(b"\2\7\1\2", Field("n", U8), Field("x", inner))
    assert fields == {"n": 2, "x": {"m": 7, "s": [1, 2]}}


def test_alignment_of_an_array_is_a_field() -> None:
    payload = b"--" + b"\1\2" + b"\3" + b"-" + struct.pack("<I", 9)
    fields = values(payload, Field("n", U16), Field("a", U8), Field("x", Array(U32, 1, 4)))
    assert fields == {"n": 0x0201, "a": 3, "x_padding": {}, "x": [9]}


def test_context() -> None:
    contexts = (Field("vpid", U32), Field("procname", Array(CHAR, 17)))
    raw = struct.pack("<I17s", 12, b"shop")
    records = decode(trace(contexts=contexts), *(compact(0, raw) for _ in range(3)))
    assert [record.context for _, record in records] == [{"vpid": 12, "procname": "shop"}] * 3
    assert {record.cpu_id for _, record in records} == {3}
    records[0][1].context["vpid"] = 0
    assert records[1][1].context["vpid"] == 12


def test_context_of_varying_size() -> None:
    records = decode(
        trace(Field("n", U8), contexts=(Field("c", String()),)), compact(0, b"task\0\5")
    )
    assert records[0][1][2:] == ({"c": "task"}, {"n": 5})


def test_clock() -> None:
    clock = (5 << 32) + 100
    records = decode(
        trace(),
        compact(100, b""),
        compact(0xFFFFFFFF, b""),
        compact(3, b""),
        extended(1 << 40, b""),
        compact(7, b""),
        clock=clock,
    )
    times = [clock, (6 << 32) - 1, (6 << 32) + 3, 1 << 40, (1 << 40) + 7]
    assert [time for time, _ in records] == times


def test_events_declared_later_are_found() -> None:
    declared = trace()
    decoder = StreamDecoder(declared, 0, VALUES)
    content = HEADER + compact(0, b"", 65534) + extended(0, b"", 70000)
    with pytest.raises(DecodeError, match="event 65534 of stream 0 is not declared"):
        list(decoder.records(content, 84, 0))
    for number in (65534, 70000):
        declared.events[0][number] = EventClass(number, 0, f"p:{number}", 13, "", ())
    names = [record.event.name for _, record in decoder.records(content, 84, 0)]
    assert names == ["p:65534", "p:70000"]


LONG = (
    Field("a", U16),
    Field("odd", Integer(24, signed=False)),
    Field("odds", Array(Integer(40, signed=False), 2)),
    Field("text", String()),
    Field("letters", Array(CHAR, 4)),
    Field("n", U8),
    Field("s", Sequence(U16, "n")),
    Field("m", U8),
    Field("t", Sequence(CHAR, "m")),
    Field("f", FloatingPoint(8, 24)),
)
RECORD = b"\1\2" + b"\1\2\3" + bytes(10) + b"abc\0" + b"abcd" + b"\2\1\0\2\0" + b"\3xyz" + bytes(4)


def test_a_record_that_is_cut_anywhere_is_an_error() -> None:
    declared = trace(*LONG, contexts=(Field("v", U32),))
    whole = compact(0, bytes(4) + RECORD)
    assert len(decode(declared, whole, whole)) == 2
    for length in range(1, len(whole)):
        with pytest.raises(DecodeError, match=r"channel0_0: event at byte 1.*leaves its packet"):
            decode(declared, whole, whole[:length])


@given(st.binary(max_size=80))
def test_garbage_is_decoded_or_an_error(garbage: bytes) -> None:
    variant = Variant("tag", (Field("none", Struct()), Field("number", U16)))
    fields = (*LONG, Field("tag", Enumeration("", U8, 0)), Field("v", variant))
    with suppress(DecodeError):
        decode(trace(*fields), garbage)


@pytest.mark.parametrize("count", [1 << 31, 1 << 62, (1 << 64) - 1])
@pytest.mark.parametrize("element", [U8, U16, CHAR, Integer(24, signed=False)])
def test_lengths_that_lie(count: int, element: Integer) -> None:
    length = Field("n", Integer(64, signed=False))
    with pytest.raises(DecodeError, match="leaves its packet"):
        values(
            struct.pack("<Q", count) + b"abc",
            length,
            Field("s", Sequence(element, "n")),
            Field("behind", U8),
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((Field("x", Integer(5, signed=False, alignment=1)),), "integer of 5 bits"),
        ((Field("x", Integer(8, signed=False, alignment=24)),), "alignment on 3 bytes"),
        ((Field("x", FloatingPoint(15, 64)),), "mantissa of 64 bits"),
        ((Field("x", Sequence(U8, "n")),), "no field n"),
        ((Field("n", Integer(8, signed=True)), Field("x", Sequence(U8, "n"))), "no unsigned"),
        ((Field("n", U8), Field("x", Variant("n", ()))), "no enumeration"),
        ((Field("n", Enumeration("", U8, 0)), Field("x", Variant("n", ()))), "selects nothing"),
    ],
)
def test_types_that_cannot_be(fields: tuple[Field, ...], message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        values(bytes(16), *fields)


def test_names_are_no_source() -> None:
    names = ["'", '"""', "{x}", "%s", "\\", "\n", "class", "data", "at", "k0", ""]
    fields = [Field(name, U8) for name in names]
    assert values(bytes(len(names)), *fields) == dict.fromkeys(names, 0)


def test_stream_classes_that_cannot_be_decoded() -> None:
    declared = trace()
    with pytest.raises(DecodeError, match="stream class 7 is not declared"):
        StreamDecoder(declared, 7, VALUES)
    declared.streams[0] = StreamClass(0, True, ())
    with pytest.raises(DecodeError, match="compact event headers"):
        StreamDecoder(declared, 0, VALUES)
