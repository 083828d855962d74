# SPDX-License-Identifier: MIT
"""Whatever metadata can say, the reader understands as it was meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ustconsumer.ctf.classes import Clock, EventClass, TraceClass
from ustconsumer.ctf.declared import Declarations, trace_class
from ustconsumer.ctf.metadata import (
    ProcessDescription,
    TraceDescription,
    event_block,
    stream_block,
    trace_header,
)
from ustconsumer.ctf.packets import MetadataPacketWriter
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

Enums = Mapping[int, tuple[EnumEntry, ...]]

# Keywords, names that begin with "_" and those that look like padding among them.
_NAMES = st.sampled_from(
    ("event", "stream", "_under", "__twice", "integer", "align", "struct", "x_padding", "_x_length")
) | st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
#: As they get into the metadata: control characters other than newlines do not.
_TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs"), include_characters="\n"))
_DATE = "20261122T200338+0000"
_ALIGNMENTS = st.sampled_from((0, 0, 0, 1, 2, 8))
_INTEGERS = st.builds(
    Integer,
    st.integers(1, 64),
    st.booleans(),
    st.sampled_from((2, 8, 10, 16)),
    st.sampled_from(("none", "UTF8", "ASCII")),
    st.sampled_from((1, 8, 16, 32, 64)),
    st.booleans(),
)
_U64 = st.integers(0, (1 << 64) - 1)
_S64 = st.integers(-(1 << 63), (1 << 63) - 1)
_ENTRIES = st.lists(
    st.builds(EnumEntry, _TEXTS, _S64, _S64)
    | st.builds(lambda label, value: EnumEntry(label, value, value), _TEXTS, _U64)
    | st.builds(EnumEntry, _TEXTS, st.just(0), st.just(0), st.just(True)),
    min_size=1,
    max_size=6,
).map(tuple)
_ENUMS = st.fixed_dictionaries(dict.fromkeys(range(2), _ENTRIES))
_FLAT: st.SearchStrategy[FieldType] = st.one_of(
    _INTEGERS,
    st.builds(FloatingPoint, st.integers(1, 16), st.integers(1, 64), _INTEGERS.map(lambda i: i[4])),
    st.builds(String, st.sampled_from(("UTF8", "ASCII"))),
    st.builds(Array, _INTEGERS, st.integers(0, 1 << 20), _ALIGNMENTS),
    st.builds(Sequence, _INTEGERS, _NAMES, _ALIGNMENTS),
    st.builds(Enumeration, _TEXTS, _INTEGERS, st.integers(0, 1)),
)


def _nested(inner: st.SearchStrategy[FieldType]) -> st.SearchStrategy[FieldType]:
    fields = _fields(inner, 3)
    return st.builds(Struct, fields, _ALIGNMENTS) | st.builds(Variant, _NAMES, fields, _ALIGNMENTS)


def _fields(
    types: st.SearchStrategy[FieldType], count: int
) -> st.SearchStrategy[tuple[Field, ...]]:
    return (
        st.lists(st.builds(Field, _NAMES, types), max_size=count)
        .map(tuple)
        .filter(lambda fields: len(_declared(fields)) == len(set(_declared(fields))))
    )


def _declared(fields: tuple[Field, ...]) -> list[str]:
    """Return the names, also of what is declared in front of some for alignment."""
    names = [field.name for field in fields]
    padded = [field.name for field in fields if getattr(field.type, "alignment", 0)]
    return names + [f"{name}_padding" for name in padded]


_FIELDS = _fields(st.recursive(_FLAT, _nested, max_leaves=6), 6)
_EVENTS = st.lists(st.tuples(_TEXTS, st.integers(0, 14), _FIELDS, _TEXTS), max_size=4)
_TRACES = st.builds(
    TraceDescription,
    uuid=st.uuids().map(str),
    tracer_major=st.integers(0, 99),
    tracer_minor=st.integers(0, 99),
    buffering_id=_U64,
    session=_TEXTS,
    created=st.just(_DATE),
    hostname=_TEXTS,
    clock_uuid=st.uuids().map(str),
    clock_offset=_S64,
    process=st.none()
    | st.builds(
        ProcessDescription,
        tracer_patchlevel=st.integers(0, 99),
        vpid=st.integers(0, 1 << 22),
        procname=_TEXTS,
        registered=st.just(_DATE),
    ),
)


def _resolved(entries: tuple[EnumEntry, ...]) -> tuple[EnumEntry, ...]:
    result = []
    following = 0
    for label, start, end, automatic in entries:
        if automatic:
            start = end = following
        result.append(EnumEntry(label, start, end))
        following = end + 1
    return tuple(result)


def _meaning(type_: FieldType, enums: Enums) -> Any:
    """Return a type without what the text does not say: names and numbers of enumerations."""
    match type_:
        case Enumeration():
            return ("enum", type_.container, _resolved(enums[type_.enum_id]))
        case Struct():
            return ("struct", _all(type_.fields, enums), type_.alignment)
        case Variant():
            return ("variant", type_.tag_name, _all(type_.choices, enums), type_.alignment)
    # Named tuples of two types may be equal.
    return (type(type_).__name__, *type_)


def _all(fields: tuple[Field, ...], enums: Enums) -> list[tuple[str, Any]]:
    return [(field.name, _meaning(field.type, enums)) for field in fields]


_TRACE = TraceDescription(
    uuid="0c4b900e-fae8-4c54-89ca-bdd44d2b0cfb",
    tracer_major=2,
    tracer_minor=13,
    buffering_id=0,
    session="auto",
    created=_DATE,
    hostname="h",
    clock_uuid="0c4b900e-fae8-4c54-89ca-bdd44d2b0cfb",
    clock_offset=5,
)


#: What fails is long, and remains so: making it shorter would take minutes.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


@settings(max_examples=80, deadline=None, phases=_PHASES)
@given(_ENUMS, _FIELDS, _EVENTS, st.data())
def test_classes(
    enums: Enums,
    contexts: tuple[Field, ...],
    events: list[tuple[str, int, tuple[Field, ...], str]],
    data: st.DataObject,
) -> None:
    blocks = [
        event_block(7, number, name, level, fields, uri, enums)
        for number, (name, level, fields, uri) in enumerate(events)
    ]
    # An event may come before its stream.
    blocks.insert(data.draw(st.integers(0, len(blocks))), stream_block(7, contexts, enums))
    for trace in _read(trace_header(_TRACE) + "".join(blocks), data):
        assert list(trace.streams) == [7]
        assert not trace.streams[7].compact
        assert _all(trace.streams[7].contexts, trace.enums) == _all(contexts, enums)
        read = trace.events.get(7, {})
        assert list(read) == list(range(len(events)))
        for (name, level, fields, uri), event in zip(events, read.values(), strict=True):
            assert event == EventClass(event.id, 7, name, level, uri, event.fields)
            assert _all(event.fields, trace.enums) == _all(fields, enums)


@settings(max_examples=30, deadline=None, phases=_PHASES)
@given(_TRACES, st.data())
def test_trace(description: TraceDescription, data: st.DataObject) -> None:
    for trace in _read(trace_header(description), data):
        _check(trace, description)


def _read(text: str, data: st.DataObject) -> Iterator[TraceClass]:
    """Read it from packets, and cut anywhere."""
    raw = text.encode()
    yield trace_class(MetadataPacketWriter(bytes(16)).append(raw))
    pieces = Declarations()
    size = data.draw(st.integers(50, 4000))
    for at in range(0, len(raw), size):
        pieces.add(raw[at : at + size])
    yield pieces.finish()


def _check(trace: TraceClass, description: TraceDescription) -> None:
    assert trace.uuid.hex() == description.uuid.replace("-", "")
    assert trace.clock == Clock("monotonic", 10**9, description.clock_offset)
    expected: dict[str, int | str] = {
        "domain": "ust",
        "tracer_name": "lttng-ust",
        "tracer_major": description.tracer_major,
        "tracer_minor": description.tracer_minor,
        "tracer_buffering_scheme": "pid" if description.process else "uid",
        "tracer_buffering_id": description.buffering_id,
        "architecture_bit_width": 64,
        "trace_name": description.session,
        "trace_creation_datetime": description.created,
        "hostname": description.hostname,
    }
    if description.process:
        expected |= {
            "tracer_patchlevel": description.process.tracer_patchlevel,
            "vpid": description.process.vpid,
            "procname": description.process.procname,
            "vpid_datetime": description.process.registered,
        }
    assert trace.env == expected
