# SPDX-License-Identifier: MIT
"""Lines as babeltrace2 2.0.4 printed them for the same bytes.

`tests/interop/test_view.py` compares many more with the original.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest

from ustconsumer.ctf.classes import Clock, EventClass, StreamClass, TraceClass
from ustconsumer.ctf.decode import StreamDecoder
from ustconsumer.ctf.text import FIELDS, Lines, TextForm, TextOptions
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

U8 = Integer(8, signed=False)
CHAR = Integer(8, signed=True, encoding="UTF8")
ENUMS = {
    0: (EnumEntry("_none", 0, 0), EnumEntry("_string", 1, 1)),
    1: (
        EnumEntry("low", 0, 9),
        EnumEntry('"quoted\\', 3, 3),
        EnumEntry("é", 200, 255),
        EnumEntry("low", 20, 29),
    ),
}


def line(
    payload: bytes,
    *fields: Field,
    contexts: tuple[Field, ...] = (),
    env: dict[str, int | str] | None = None,
    options: TextOptions = TextOptions(),  # noqa: B008
) -> str:
    """Return what stands behind the time, the end of the line cut off."""
    trace = TraceClass(
        bytes(16),
        {"hostname": "h"} if env is None else env,
        Clock("monotonic", 1_000_000_000, 0),
        {0: StreamClass(0, False, contexts)},
        {0: {0: EventClass(0, 0, "p:e", 6, "http://x/?y", fields)}},
        ENUMS,
    )
    decoder = StreamDecoder(trace, 0, TextForm(options, "path"))
    record = struct.pack("<HI", 0, 0) + payload
    ((_, text),) = decoder.records(record, 0, 0, 3)
    assert text.endswith("\n")
    return text[:-1]


def value(payload: bytes, type_: FieldType, *before: Field) -> str:
    """Return the text of the last field."""
    text = line(payload, *before, Field("x", type_))
    _, _, rest = text.partition("x = ")
    assert rest.endswith(" }")
    return rest[:-2]


@pytest.mark.parametrize(
    ("size", "signed", "base", "number", "text"),
    [
        (8, True, 10, -3, "-3"),
        (64, False, 10, (1 << 64) - 1, "18446744073709551615"),
        (8, True, 16, -3, "0xFD"),
        (16, False, 16, 0xABC, "0xABC"),
        (32, True, 16, -1, "0xFFFFFFFF"),
        (64, True, 16, -1, "0xFFFFFFFFFFFFFFFF"),
        (24, True, 16, -2, "0xFFFFFE"),
        (8, True, 8, -1, "0777"),
        (16, True, 8, -1, "0777777"),
        (64, True, 8, -1, "01777777777777777777777"),
        (8, False, 8, 0, "00"),
        (8, True, 2, -3, "0b11111101"),
        (16, False, 2, 5, "0b0000000000000101"),
    ],
)
def test_integer(size: int, signed: bool, base: int, number: int, text: str) -> None:
    raw = number.to_bytes(size // 8, "little", signed=signed)
    type_ = Integer(size, signed, base)
    assert value(raw, type_) == text
    assert value(raw + raw, Array(type_, 2)) == f"[ [0] = {text}, [1] = {text} ]"
    enumerated = value(raw, Enumeration("", type_, 7))
    assert enumerated == f"( <unknown> : container = {text} )"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (struct.pack("<d", 0.1), "0.1"),
        (struct.pack("<d", 123456789.0), "1.23457e+08"),
        (struct.pack("<d", -0.0), "-0"),
        (struct.pack("<d", 1e300), "1e+300"),
        (struct.pack("<d", float("-inf")), "-inf"),
        (b"\0\0\0\0\0\0\xf8\x7f", "nan"),
        (b"\0\0\0\0\0\0\xf8\xff", "-nan"),
    ],
)
def test_floating_point(number: bytes, text: str) -> None:
    assert value(number, FloatingPoint(11, 53)) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", '""'),
        (b"plain", '"plain"'),
        (b"\"q\" 'a' \\ what?", r'"\"q\" \'a\' \\ what\?"'),
        (b"\a\b\x1b\f\n\r\t\v", r'"\a\b\e\f\n\r\t\v"'),
        (b"\x01\x1f\x7f", r'"\x01\x1f\x7f"'),
        (b"100%s %d", '"100%s %d"'),
        (b"\xc3\xa9\xff\x80", '"\xc3\xa9\xff\x80"'),
    ],
)
def test_text(raw: bytes, text: str) -> None:
    assert value(raw + b"\0", String()) == text
    assert value(raw, Array(CHAR, len(raw))) == text
    assert value(raw + b"\0rest", Array(CHAR, len(raw) + 5)) == text
    sequence = Sequence(CHAR, "n")
    assert value(bytes([len(raw)]) + raw, sequence, Field("n", U8)) == text


def test_long_text() -> None:
    for _ in range(2):
        assert value(b"x" * 5000 + b"\0", String()) == f'"{"x" * 5000}"'


@pytest.mark.parametrize("count", [0, 1, 3, 255])
def test_sequence(count: int) -> None:
    members = ", ".join(f"[{number}] = {number}" for number in range(count))
    text = f"[ {members} ]" if count else "[ ]"
    raw = bytes([count, *range(count)])
    assert line(raw, Field("n", U8), Field("x", Sequence(U8, "n"))) == (
        f"h p:e: {{ cpu_id = 3 }}, {{ n = {count}, x = {text} }}"
    )


@pytest.mark.parametrize(
    ("number", "names"),
    [
        (3, r'"low", "\"quoted\\"'),
        (21, '"low"'),
        (10, "<unknown>"),
        (200, '"\xc3\xa9"'),
    ],
)
def test_enumeration(number: int, names: str) -> None:
    text = value(bytes([number]), Enumeration("", U8, 1))
    assert text == f"( {names} : container = {number} )"


def test_variant() -> None:
    variant = Variant("x_tag", (Field("none", Struct()), Field("string", String())))
    fields = (Field("x_tag", Enumeration("", U8, 0)), Field("x", variant))
    assert line(b"\0", *fields) == (
        'h p:e: { cpu_id = 3 }, { x_tag = ( "_none" : container = 0 ), x = { { } } }'
    )
    assert line(b"\1a\0", *fields) == (
        'h p:e: { cpu_id = 3 }, { x_tag = ( "_string" : container = 1 ), x = { "a" } }'
    )


def test_structures() -> None:
    assert line(b"") == "h p:e: { cpu_id = 3 }, { }"
    inner = Struct((Field("a", U8), Field("100%", U8)))
    assert value(b"\1\2", inner) == "{ a = 1, 100% = 2 }"


def test_context() -> None:
    vpid = Field("vpid", Integer(32, signed=True))
    text = "h p:e: { cpu_id = 3 }, { vpid = -1 }, { n = 7 }"
    assert line(b"\xff" * 4 + b"\7", Field("n", U8), contexts=(vpid,)) == text
    task = Field("task", String())
    text = 'h p:e: { cpu_id = 3 }, { task = "a" }, { n = 7 }'
    assert line(b"a\0\7", Field("n", U8), contexts=(task,)) == text


ENV: dict[str, int | str] = {"hostname": "h", "domain": "ust", "procname": "é%s", "vpid": 77}


@pytest.mark.parametrize(
    ("env", "fields", "origin"),
    [
        ({}, None, ""),
        ({"hostname": "h"}, None, "h "),
        (ENV, None, "h:\xc3\xa9%s:(77) "),
        (ENV, frozenset(), ""),
        (ENV, frozenset({"trace"}), "path"),
        (ENV, FIELDS, "pathh:ust:\xc3\xa9%s:(77):TRACE_INFO (6):http://x/?y "),
        (ENV, frozenset({"loglevel"}), "TRACE_INFO (6) "),
    ],
)
def test_origin(env: dict[str, int | str], fields: frozenset[str] | None, origin: str) -> None:
    options = TextOptions() if fields is None else TextOptions(fields=fields)
    text = line(b"", env=env, options=options)
    assert text == f"{origin}p:e: {{ cpu_id = 3 }}, {{ }}"


DAY = 1795376888  # 2026-11-22 19:48:08 UTC


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def shown(options: TextOptions, *times: int) -> list[str]:
    complaints: list[str] = []
    lines = Lines(options, complaints.append)
    return [*lines.lines((moment, "e\n") for moment in times), *complaints]


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (TextOptions(), "[01:18:08.000000005] (+?.?????????) e\n"),
        (TextOptions(clock_gmt=True), "[19:48:08.000000005] (+?.?????????) e\n"),
        (TextOptions(clock_date=True), "[2026-11-23 01:18:08.000000005] (+?.?????????) e\n"),
        (
            TextOptions(clock_date=True, clock_gmt=True),
            "[2026-11-22 19:48:08.000000005] (+?.?????????) e\n",
        ),
        (TextOptions(clock_seconds=True), "[1795376888.000000005] (+?.?????????) e\n"),
        (TextOptions(delta=False), "[01:18:08.000000005] e\n"),
    ],
)
def test_time(options: TextOptions, text: str) -> None:
    assert shown(options, DAY * 10**9 + 5) == [text]


def test_time_since_the_event_before() -> None:
    times = (5, 5, 10**9 + 4, 10**9 + 5, 3 * 10**9 + 6, 10**15)
    lines = shown(TextOptions(clock_gmt=True), *times)
    assert [text.split("] (")[1] for text in lines] == [
        "+?.?????????) e\n",
        "+0.000000000) e\n",
        "+0.999999999) e\n",
        "+0.000000001) e\n",
        "+2.000000001) e\n",
        "+999996.999999994) e\n",
    ]
    assert lines[-1].startswith("[13:46:40.000000000] ")


def test_clock_cycles() -> None:
    lines = Lines(TextOptions(clock_cycles=True), print)
    # Clocks of two traces.
    assert [*lines.cycles([(5, "e\n"), (12, "e\n"), (10, "e\n")])] == [
        "[00000000000000000005] (+????????????) e\n",
        "[00000000000000000012] (+000000000007) e\n",
        "[00000000000000000010] (+18446744073709551614) e\n",
    ]
    lines = Lines(TextOptions(clock_cycles=True, delta=False), print)
    assert [*lines.cycles([(5, "e\n")])] == ["[00000000000000000005] e\n"]


def test_time_before_the_epoch() -> None:
    times = (-1_500_000_000, -1_500_000_000, -1, 1)
    assert shown(TextOptions(clock_gmt=True, delta=False), *times) == [
        "[-1.500000000] e\n",
        "[00:00:01.500000000] e\n",
        "[00:00:00.000000001] e\n",
        "[00:00:00.000000001] e\n",
        "[warning] Fallback to [sec.ns] to print negative time value. Use --clock-seconds.",
    ]
    assert shown(TextOptions(clock_seconds=True, delta=False), *times) == [
        "[-1.500000000] e\n",
        "[-1.500000000] e\n",
        "[-0.000000001] e\n",
        "[0.000000001] e\n",
    ]
