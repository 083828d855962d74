# SPDX-License-Identifier: MIT
"""All programs of a uid share one text: equal definitions once, impossible ones never."""

from __future__ import annotations

import errno
import re
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.declarations import DeclarationRefusedError
from sessiond.metadata import TraceMetadata
from sessiond.owners import Owner
from sessiond.registry import Session
from ustconsumer.ctf.metalog import MetadataLogReader
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
from ustconsumer.protocol.application import EventRequest

I32 = Integer(32, True)
U8 = Integer(8, False)


class Declared:
    """A trace's metadata and its reader."""

    def __init__(self) -> None:
        session = Session(name="s", uid=1000, gid=1000, output="")
        self.trace = TraceMetadata(session, Owner(1000, "ust-9-x86_64", "2.13.5"), uuid.uuid4())
        self._reader = MetadataLogReader(self.trace.reopen_read_only())
        self.header = self.new()

    def new(self) -> str:
        """Return the text appended since the last call."""
        return self._reader.read().decode()

    def close(self) -> None:
        self.trace.close()
        self._reader.close()


@pytest.fixture
def declared() -> Iterator[Declared]:
    declared = Declared()
    yield declared
    declared.close()


def request(
    *types: FieldType, name: str = "p:e", signature: str = "int, a", loglevel: int = 13
) -> EventRequest:
    fields = tuple(Field(f"f{number}", type_) for number, type_ in enumerate(types))
    return EventRequest(1, 2, name, loglevel, signature, fields, "")


def test_equal_events_are_one(declared: Declared) -> None:
    assert declared.header.startswith("/* CTF 1.8 */")
    declared.trace.complete([0, 1])
    declared.new()
    assert declared.trace.event(0, request(I32)) == 0
    assert declared.new().count('name = "p:e"') == 1
    assert declared.trace.event(0, request(I32)) == 0
    assert declared.new() == ""
    # facts, application protocol 5.1 and 5.5: another signature, other fields, another
    # channel are other events; ids count per channel.
    assert declared.trace.event(0, request(I32, signature="long, a")) == 1
    assert declared.trace.event(0, request(U8)) == 2
    assert declared.trace.event(1, request(I32)) == 0
    assert declared.new().count('name = "p:e"') == 3
    # Steps: (0, n) skips n bytes.
    assert declared.trace.event_steps() == {
        0: {0: [(0, 4)], 1: [(0, 4)], 2: [(0, 1)]},
        1: {0: [(0, 4)]},
    }


def test_contexts_are_those_of_the_first_program(declared: Declared) -> None:
    vpid, vtid = Field("vpid", I32), Field("vtid", I32)
    declared.trace.stream_class(0, (vpid,))
    assert "_vpid" in declared.new()
    declared.trace.stream_class(0, (vpid,))
    with pytest.raises(DeclarationRefusedError) as refused:
        declared.trace.stream_class(0, (vpid, vtid))
    assert refused.value.errno == errno.EINVAL
    assert declared.new() == ""
    assert declared.trace.context_steps() == {0: [(0, 4)]}


def test_streams_without_an_event_are_declared_in_the_end(declared: Declared) -> None:
    declared.trace.stream_class(1, (Field("vpid", I32),))
    declared.new()
    declared.trace.complete([0, 1])
    text = declared.new()
    assert text.count("stream {") == 1
    assert "\tid = 0;" in text


def test_events_come_after_the_class_of_their_stream(declared: Declared) -> None:
    """Whoever names them first: readers refuse a trace that ends in between."""
    declared.trace.event(0, request(I32))
    declared.trace.event(1, request(U8, name="p:other"))
    assert declared.new() == ""
    declared.trace.stream_class(0, ())
    text = declared.new()
    assert text.count("stream {") == text.count("event {") == 1
    assert text.index("stream {") < text.index("event {")
    declared.trace.event(0, request(I32, name="p:next"))
    assert "p:next" in declared.new()
    declared.trace.complete([0, 1])
    text = declared.new()
    assert text.index("stream {") < text.index('"p:other"')


def test_enumerations_are_shared_by_their_entries(declared: Declared) -> None:
    color = declared.trace.enumeration("p_color", (EnumEntry("red", 0, 0),))
    assert declared.trace.enumeration("p_color", (EnumEntry("red", 0, 0),)) == color
    other = declared.trace.enumeration("p_color", (EnumEntry("blue", 0, 0),))
    assert other != color
    declared.trace.complete([0])
    assert "enum" not in declared.new()
    declared.trace.event(0, request(Enumeration("p_color", I32, other)))
    text = declared.new()
    assert '"blue"' in text
    assert '"red"' not in text


def test_the_header_says_whose_and_which(declared: Declared) -> None:
    # Of the kernel: readers compare it to tell whether two traces have one clock.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for line in (
        f'uuid = "{boot}";',
        "tracer_major = 2;",
        "tracer_minor = 13;",
        "tracer_buffering_id = 1000;",
        'trace_name = "s";',
        f'hostname = "{socket.gethostname()}";',
    ):
        assert f"\t{line}\n" in declared.header
    # facts, ctf layout 6: local time, with its zone.
    assert re.search(r'trace_creation_datetime = "\d{8}T\d{6}[+-]\d{4}";', declared.header)


NO_TAG = Variant("tag", (Field("a", I32),))


@pytest.mark.parametrize(
    "odd",
    [
        request(I32, name=""),
        request(I32, name='p:"\n};'),
        request(I32, name="p:\x1b[31m"),
        request(I32, loglevel=15),
        request(I32, loglevel=-1),
        request(Enumeration("p_color", I32, 7)),
        request(Integer(32, True, alignment=32)),
        request(Array(U8, 4, alignment=4)),
        request(U8, Sequence(Integer(16, True, alignment=16), "f0")),
        request(NO_TAG),
        request(Struct((Field("a", I32),))),
        request()._replace(fields=(Field("a", I32), Field("a", String()))),
        request()._replace(fields=(Field("a.b", I32), Field("a$b", I32))),
        request()._replace(fields=(Field("", I32),)),
    ],
)
def test_what_would_break_the_trace_is_refused(declared: Declared, odd: EventRequest) -> None:
    with pytest.raises(DeclarationRefusedError) as refused:
        declared.trace.event(0, odd)
    assert refused.value.errno == errno.EINVAL
    assert "\n" not in str(refused.value)
    assert declared.new() == ""
    # No id was spent on it.
    assert declared.trace.event(0, request(I32)) == 0


@pytest.mark.parametrize(
    "entries",
    [(), (EnumEntry("down", 2, 1),), (EnumEntry("bell\a", 0, 0),)],
)
def test_impossible_enumerations(declared: Declared, entries: tuple[EnumEntry, ...]) -> None:
    with pytest.raises(DeclarationRefusedError):
        declared.trace.enumeration("p_odd", entries)


def test_regenerated_it_says_the_same_but_for_the_clock(
    declared: Declared, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared.trace.stream_class(0, ())
    declared.trace.event(0, EventRequest(0, 0, "p:one", 13, "", (), ""))
    before = declared.header + declared.new()
    # A machine without a battery is in 1970 until somebody tells it the time.
    for offset in (7, 1_790_000_000_123_456_789, 8):
        monkeypatch.setattr("sessiond.metadata.clock_offset", lambda now=offset: now)
        declared.trace.regenerate()
        after = declared.new()
        assert re.findall(r"offset = (\d+);", after) == [str(offset)]
        assert re.sub(r"offset = \d+;", "", after) == re.sub(r"offset = \d+;", "", before)
        declared.trace.event(0, EventRequest(0, 0, f"p:{offset}", 13, "", (), ""))
        more = declared.new()
        assert more.startswith("event {")
        before = after + more
