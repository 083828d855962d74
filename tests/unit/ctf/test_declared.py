# SPDX-License-Identifier: MIT
"""Metadata read back: LTTng's own, and what is wrong with other texts, and where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from helpers import captured

from ustconsumer.ctf.classes import TraceClass
from ustconsumer.ctf.declared import Declarations, trace_class
from ustconsumer.ctf.packets import MetadataPacketWriter
from ustconsumer.ctf.types import (
    Array,
    EnumEntry,
    Enumeration,
    Field,
    FieldType,
    Integer,
    Sequence,
    String,
    Struct,
    Variant,
)
from ustconsumer.errors import DecodeError

U8, U16, U32, U64 = (Integer(size, signed=False) for size in (8, 16, 32, 64))
#: Up to and with the event headers, as `lttng-sessiond` wrote it.
HEADER = captured.metadata().partition("stream {")[0]
STREAM = "stream { id = 3; event.header := struct event_header_large; "
STREAM += "packet.context := struct packet_context; };"


def declared(text: str) -> TraceClass:
    return trace_class((HEADER + text).encode("utf-8", "surrogateescape"))


def fields(text: str) -> tuple[Field, ...]:
    """Return the fields of an event whose structure has these members."""
    trace = declared(f"{STREAM} event {{ id = 0; stream_id = 3; fields := struct {{ {text} }}; }};")
    return trace.events[3][0].fields


def the_type(text: str) -> FieldType:
    """Return the type of a single field."""
    (field,) = fields(f"{text} _x;")
    assert field.name == "x"
    return field.type


def test_lttngs_own() -> None:
    """Fields are those that liblttng-ust described to the daemon that wrote the text."""
    trace = trace_class((captured.FIXTURES / "metadata").read_bytes())
    enums = captured.enumerations()
    events = contexts = 0
    for item in captured.answered():
        request = item.request
        if isinstance(request, captured.ChannelRequest):
            contexts += len(request.contexts)
            found = trace.streams[item.id]
            assert (found.id, found.compact) == (item.id, False)
            assert plain(found.contexts, trace.enums) == plain(request.contexts, enums)
        elif isinstance(request, captured.EventRequest):
            events += 1
            event = trace.events[captured.channel_ids()[request.channel]][item.id]
            assert event.name == request.name
            assert event.loglevel == request.loglevel
            assert event.model_emf_uri == request.model_emf_uri
            assert plain(event.fields, trace.enums) == plain(request.fields, enums)
    assert (events, contexts) == (sum(map(len, trace.events.values())), 19)
    assert trace.env["hostname"] == "tracehost"
    assert trace.env["tracer_minor"] == 13
    assert trace.clock.frequency == 1_000_000_000


def plain(fields: tuple[Field, ...], enums: Mapping[int, Any]) -> list[Any]:
    """Return fields without names and numbers of enumerations, and with names as in the text."""
    result: list[Any] = []
    for name, type_ in fields:
        known = re.sub(r"\W", "_", name)
        if isinstance(type_, Enumeration):
            labels = [entry.label for entry in enums[type_.enum_id]]
            result.append((known, type_.container, labels))
        elif isinstance(type_, Variant):
            tag = re.sub(r"\W", "_", type_.tag_name)
            result.append((known, tag, plain(type_.choices, enums)))
        else:
            result.append((known, type_))
    return result


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("integer { size = 32; }", U32),
        ("integer{size=0x10;align=8;signed=true;base=hex;}", Integer(16, True, 16)),
        ("integer { size = 010; signed = 1; encoding = UTF8; }", Integer(8, True, 10, "UTF8")),
        ("integer { size = 16; byte_order = be; }", Integer(16, False, reverse_byte_order=True)),
        ("integer { size = 3; }", Integer(3, False, alignment=1)),
        ("uint16_t", U16),
        ("unsigned /* and */ long // end\n", U64),
        ("string", String()),
        ("string { encoding = ASCII; }", String("ASCII")),
        ("struct { }", Struct()),
        ("struct { uint8_t _a; struct { } align(64) b; }", None),
        ("struct { } align(32)", Struct((), 4)),
        ("variant <_tag> { uint8_t _a; string _b; }", None),
    ],
)
def test_types(text: str, type_: FieldType | None) -> None:
    expected: dict[str, FieldType] = {
        "struct { uint8_t _a; struct { } align(64) b; }": Struct(
            (Field("a", U8), Field("b", Struct((), 8)))
        ),
        "variant <_tag> { uint8_t _a; string _b; }": Variant(
            "tag", (Field("a", U8), Field("b", String()))
        ),
    }
    assert the_type(text) == (type_ or expected[text])


def test_members() -> None:
    assert fields("uint8_t __n; uint8_t _s[__n]; uint8_t _a[ 4 ]; uint8_t plain;") == (
        Field("_n", U8),
        Field("s", Sequence(U8, "_n")),
        Field("a", Array(U8, 4)),
        Field("plain", U8),
    )


def test_padding_is_the_alignment_of_what_follows() -> None:
    assert fields("struct { } align(16) _a_padding; uint8_t _a[2]; struct { } _b_padding;") == (
        Field("a", Array(U8, 2, 2)),
        Field("b_padding", Struct()),
    )


def test_enumeration() -> None:
    trace = declared(
        f"{STREAM} event {{ id = 0; stream_id = 3; fields := struct {{ "
        'enum : uint8_t { A, "B b", J = 10, K, R = 0x14 ... 29, "q\\"\\\\\\n\\303\\xa9" = -3, L }'
        " _x; enum : uint8_t { A } _y; enum : uint16_t { A, } _z; }; };"
    )
    x, y, z = (field.type for field in trace.events[3][0].fields)
    assert isinstance(x, Enumeration)
    assert isinstance(y, Enumeration)
    assert isinstance(z, Enumeration)
    assert (x.container, z.container) == (U8, U16)
    assert trace.enums[x.enum_id] == (
        EnumEntry("A", 0, 0),
        EnumEntry("B b", 1, 1),
        EnumEntry("J", 10, 10),
        EnumEntry("K", 11, 11),
        EnumEntry("R", 20, 29),
        EnumEntry('q"\\\né', -3, -3),
        EnumEntry("L", -2, -2),
    )
    # Equal ones are one.
    assert y.enum_id == z.enum_id != x.enum_id


def test_bytes_that_are_no_text() -> None:
    trace = declared('env { a = "\udcff\\xfe"; b = -5; };')
    assert trace.env["a"] == "\udcff\udcfe"
    assert trace.env["b"] == -5


def test_compact_header() -> None:
    trace = declared(STREAM.replace("large", "compact"))
    assert trace.streams[3].compact


def test_text_without_packets() -> None:
    raw = captured.metadata().encode()
    assert trace_class(raw) == trace_class(MetadataPacketWriter(bytes(16)).append(raw))


def test_metadata_that_grows() -> None:
    declarations = Declarations()
    declarations.add(HEADER.encode())
    trace = declarations.finish()
    declarations.add(b"stream { id = 3; event.header")
    assert not trace.streams
    with pytest.raises(DecodeError, match="cut off"):
        declarations.finish()
    declarations.add(STREAM.encode()[len("stream { id = 3; event.header") :])
    assert list(trace.streams) == [3]
    assert declarations.finish() is trace


def test_text_cut_anywhere() -> None:
    text = STREAM + r' /* c */ event { id = 0x0; name = "\"é"; stream_id = 3; }; // d' + "\n"
    raw = (text + "env { a = 012; };").encode()
    for at in range(len(raw)):
        declarations = Declarations()
        for part in (HEADER.encode(), raw[:at], raw[at:]):
            declarations.add(part)
        trace = declarations.finish()
        assert trace.events[3][0].name == '"é'
        assert trace.env["a"] == 10


#: The end of `HEADER` is at column 1 of the line after its last.
LINE = HEADER.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("typedef int x;", 1, "a declaration of 'typedef' is not understood"),
        ("typealias uint8_t = b;", 19, "'=' where ':=' belongs"),
        ("typealias uint8_t := uint16_t;", 22, "type uint16_t is declared a second time"),
        ("typealias nothing := x;", 11, "type nothing is not declared"),
        ("typealias integer { } := x;", 11, "no size"),
        ("typealias integer { size = 65; } := x;", 11, "integer of 65 bits"),
        ("typealias integer { size = 8; align = 7; } := x;", 11, "alignment on 7 bits"),
        ("typealias integer { size = 8; colour = 7; } := x;", 31, "attribute colour of a type"),
        ("typealias integer { size = 8; size = 8; } := x;", 31, "size is declared a second time"),
        ("typealias integer { size = 09; } := x;", 28, "09 is no number"),
        ("typealias integer { size = eight; } := x;", 21, "size is no number"),
        ("typealias integer { size = 8; base = 7; } := x;", 31, "base 7 is not understood"),
        ("typealias enum : string { } { A } := x;", 18, "an enumeration of something else"),
        ("typealias enum : uint8_t { A B } := x;", 30, "'B' where ',' or '}' belongs"),
        ("struct s { string _a[3]; };", 19, "an array of something else than integers"),
        ("struct s { uint8_t _a[-1]; };", 20, "an array of -1 elements"),
        ("struct s { uint8_t _a[1][2]; };", 20, "an array of arrays"),
        ("struct s { uint8_t _a; string a; };", 31, "a second member a"),
        ("struct s { struct t _a; };", 12, "struct t is not declared"),
        ("struct s { uint8_t _a };", 23, "'}' where ';' belongs"),
        ("struct packet_context { };", 1, "struct packet_context is declared a second time"),
        ("struct s { uint8_t _a[18446744073709551616]; };", 23, "has more than 64 bits"),
        ("trace { };", 1, "a second trace"),
        ('clock { name = "x"; };', 1, "a second clock"),
        (f"{STREAM} {STREAM}", len(STREAM) + 2, "stream 3 is declared a second time"),
        (STREAM.replace("3", '"a"'), 10, "id is no number"),
        (STREAM.replace("id = 3;", ""), 1, "no id"),
        ("event { id = 1; stream_id = 3; context := struct { }; };", 32, "contexts of a single"),
        ("event { id = 1; stream_id = 3; }; " * 2, 35, "event 1 of stream 3: a second one"),
        ("event { id = 1; };", 1, "no stream_id"),
        ("env { a = 1 };", 13, "'}' where ';' belongs"),
        ("env @", 5, "'@' is no word of TSDL"),
        ('; env { a = "', 3, "the declaration that follows is cut off"),
        ("env {", 1, "the declaration that follows is cut off"),
        ("env { };}", 9, "the declaration that follows is cut off"),
        ("};", 1, "'}' where a word belongs"),
        ("/* cut", 1, "the declaration that follows is cut off"),
        ("struct { " * 17, 1, "cut off"),
        (f"struct s {{ {'struct { ' * 17}{'} a; ' * 17} }};", 147, "more than 16 types inside"),
    ],
)
def test_errors(text: str, column: int, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        declared(text)
    assert str(caught.value).startswith(f"metadata, line {LINE}, column {column}: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("byte_order = le", "byte_order = be", "only little-endian traces are read"),
        ("minor = 8", "minor = 9", "another version of CTF"),
        ("uint32_t magic;", "uint32_t magic; uint32_t more;", "packet.header is not LTTng's"),
        ('uuid = "', 'uuid = "x', "no uuid"),
        ("freq = 1000000000", "freq = 0", "freq is not positive"),
    ],
)
def test_other_headers(old: str, new: str, reason: str) -> None:
    text = captured.metadata().replace(old, new, 1)
    with pytest.raises(DecodeError, match=rf"metadata, line \d+, column \d+: .*{reason}"):
        trace_class(text.encode())


@pytest.mark.parametrize(
    ("block", "reason"), [("trace", "no trace with a uuid"), ("clock", "no clock")]
)
def test_missing_blocks(block: str, reason: str) -> None:
    text = re.sub(rf"(?s)\n{block} \{{.*?\n\}};\n", "", HEADER)
    assert text != HEADER
    with pytest.raises(DecodeError, match=reason):
        trace_class(text.encode())


def test_fixed_event_header_is_refused() -> None:
    """Legal, but nobody's: neither LTTng's nor ours."""
    stream = "stream { id = 0;\n event.header := struct { uint16_t id; uint64_t timestamp; };"
    with pytest.raises(DecodeError, match=rf"line {LINE + 1}, column 2: event.header is neither"):
        declared(stream + " packet.context := struct packet_context; };")
    with pytest.raises(DecodeError, match=r"packet.context is not that of LTTng for 64-bit"):
        declared(STREAM.replace("packet.context := struct packet_context;", ""))
