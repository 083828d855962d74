# SPDX-License-Identifier: MIT
"""Native and readable counter on the same packets, built here byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest
from helpers import captured
from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.ctf.count import EventCounter, PythonEventCounter, count_events
from ustconsumer.ctf.skip import FIXED, OPAQUE, SEQUENCE, STRING, Steps, steps
from ustconsumer.errors import DecodeError, UsageError

UUID = bytes(range(16))
CONTEXT = b"vpid" + b"vtid"
CONTEXTS: dict[int, Steps] = {3: [(FIXED, len(CONTEXT))]}
#: Event id to steps; id 6 is no event.
EVENTS: dict[int, Steps] = {
    0: [],
    1: [(FIXED, 5)],
    2: [(STRING, 0)],
    3: [(FIXED, 2), (SEQUENCE, 3), (STRING, 0)],
    4: [(SEQUENCE + 1, 1), (SEQUENCE + 2, 2), (SEQUENCE + 3, 8)],
    5: [(FIXED, 1), (OPAQUE, 0)],
    7: [(FIXED, 1)],
    70000: [(FIXED, 1)],
}


class Event(NamedTuple):
    """One record: its bytes from the header on."""

    raw: bytes

    @staticmethod
    def make(event_id: int, payload: bytes, extended: bool) -> Event:
        if extended or event_id >= 65535:
            return Event(struct.pack("<HIQ", 65535, event_id, 77) + CONTEXT + payload)
        return Event(struct.pack("<HI", event_id, 77) + CONTEXT + payload)


def packet(
    events: Iterable[Event],
    *,
    stream_id: int = 3,
    padding: int = 0,
    discarded: int = 0,
    magic: int = 0xC1FC1FC1,
    content_size: int | None = None,
    packet_size: int | None = None,
) -> bytes:
    body = b"".join(event.raw for event in events)
    content = 8 * (84 + len(body)) if content_size is None else content_size
    size = 8 * (84 + len(body) + padding) if packet_size is None else packet_size
    header = struct.pack("<I16sIQ", magic, UUID, stream_id, 1)
    header += struct.pack("<QQQQQQI", 5, 9, content, size, 0, discarded, 1)
    return header + body + b"\xa5" * padding


def arrays(code: str, width: int) -> st.SearchStrategy[bytes]:
    """Return a sequence: its length as ``code`` says, then elements of ``width`` bytes."""
    return st.integers(0, 9).flatmap(
        lambda n: st.binary(min_size=n * width, max_size=n * width).map(
            lambda raw: struct.pack(code, n) + raw
        )
    )


texts = st.binary(max_size=12).map(lambda raw: raw.replace(b"\0", b"x") + b"\0")
payloads: dict[int, st.SearchStrategy[bytes]] = {
    0: st.just(b""),
    1: st.binary(min_size=5, max_size=5),
    2: texts,
    3: st.tuples(st.binary(min_size=2, max_size=2), arrays("<B", 3), texts).map(b"".join),
    4: st.tuples(arrays("<H", 1), arrays("<I", 2), arrays("<Q", 8)).map(b"".join),
    70000: st.binary(min_size=1, max_size=1),
}
records = st.sampled_from(sorted(payloads)).flatmap(
    lambda number: st.builds(Event.make, st.just(number), payloads[number], st.booleans())
)
packets = st.tuples(st.lists(records, max_size=20), st.integers(0, 40), st.integers(0, 2**64 - 1))

Counter = Callable[[Any, Any], EventCounter | PythonEventCounter]


@pytest.fixture(params=[EventCounter, PythonEventCounter], scope="module")
def counter(request: pytest.FixtureRequest) -> EventCounter | PythonEventCounter:
    make: Counter = request.param
    return make(CONTEXTS, {3: EVENTS})


class TestCounters:
    @given(st.lists(packets, max_size=6))
    def test_counts_what_was_written(
        self,
        counter: EventCounter | PythonEventCounter,
        written: list[tuple[list[Event], int, int]],
    ) -> None:
        data = b"".join(packet(e, padding=p, discarded=d) for e, p, d in written)
        expected = sum(len(events) for events, _, _ in written)
        last = written[-1][2] if written else 0
        assert counter.count(data) == (expected, len(written), last)

    @pytest.mark.parametrize(
        ("data", "complaint"),
        [
            (packet([])[:-1], "packet header cut off at byte 0"),
            (packet([]) + b"\0", "packet header cut off at byte 84"),
            (packet([], magic=0x75D11D57), "wrong magic"),
            (packet([], packet_size=8 * 84 + 1), "packet size out of range"),
            (packet([], packet_size=8 * 85), "packet size out of range"),
            (packet([], packet_size=8 * 83), "packet size out of range"),
            (packet([], packet_size=2**64 - 8), "packet size out of range"),
            (packet([], content_size=8 * 83), "content size out of range"),
            (packet([], content_size=8 * 84 + 4, padding=4), "content size out of range"),
            (packet([], content_size=8 * 85), "content size out of range"),
            # What the header of an open packet holds.
            (packet([], content_size=2**64 - 1, packet_size=2**64 - 1), "packet size out of"),
            (packet([Event(b"\0\0\0\0\0\0")], stream_id=2), "stream class without description"),
            (packet([Event(b"\0\0\0\0\0")]), "event header cut off at byte 84"),
            (packet([Event(b"\xff\xff" + bytes(11))]), "event header cut off at byte 84"),
            (packet([Event.make(6, b"", False)]), "event id without description"),
            (packet([Event.make(69999, b"", False)]), "event id without description"),
            (packet([Event.make(2**32 - 1, b"", False)]), "event id without description"),
            (packet([Event.make(1, bytes(4), False)]), "event cut off at byte 84"),
            (packet([Event.make(2, b"no end", False)], padding=9), "event cut off at byte 84"),
            (packet([Event.make(3, b"..\2------", False)]), "event cut off at byte 84"),
            (packet([Event.make(3, b"..\2-----", False)]), "event cut off at byte 84"),
            (packet([Event.make(4, b"\0", False)]), "event cut off at byte 84"),
            # Lengths whose products wrap: 2**61 elements of 8 bytes, and -1.
            (packet([Event.make(4, bytes(13) + b"\x20", False)]), "event cut off at byte 84"),
            (packet([Event.make(4, bytes(6) + b"\xff" * 8, False)]), "event cut off at byte 84"),
            (packet([Event.make(5, b"-", False)]), "event with a variant or padding at byte 84"),
            (
                packet([]) + packet([Event.make(6, b"", False)]),
                "byte 168, in the packet at byte 84",
            ),
        ],
    )
    def test_refuses(
        self, counter: EventCounter | PythonEventCounter, data: bytes, complaint: str
    ) -> None:
        with pytest.raises(DecodeError, match=complaint):
            counter.count(data)

    def test_packets_without_events_need_no_description(
        self, counter: EventCounter | PythonEventCounter
    ) -> None:
        assert counter.count(packet([], stream_id=2**32 - 1, padding=5, discarded=4)) == (0, 1, 4)

    @pytest.mark.parametrize("name", sorted(captured.counts()))
    def test_same_number_as_babeltrace2(
        self, counter: EventCounter | PythonEventCounter, name: str
    ) -> None:
        contexts, events = described()
        assert (
            type(counter)(contexts, events).count(captured.data(name))[0]
            == (captured.counts()[name])
        )


def described() -> tuple[dict[int, Steps], dict[int, dict[int, Steps]]]:
    """Return the steps of the frozen session, from what its program sent."""
    contexts: dict[int, Steps] = {}
    events: dict[int, dict[int, Steps]] = {}
    channels = captured.channel_ids()
    for item in captured.answered():
        if isinstance(item.request, captured.ChannelRequest):
            contexts[item.id] = steps(item.request.contexts)
        elif isinstance(item.request, captured.EventRequest):
            events.setdefault(channels[item.request.channel], {})[item.id] = steps(
                item.request.fields
            )
    return contexts, events


@given(st.lists(records, max_size=6), st.data())
def test_counters_agree_on_damaged_packets(written: list[Event], data: st.DataObject) -> None:
    raw = bytearray(packet(written, padding=3) + packet(written))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    outcomes = []
    for make in (EventCounter, PythonEventCounter):
        try:
            outcomes.append(str(make(CONTEXTS, {3: EVENTS}).count(cut)))
        except DecodeError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("make", [EventCounter, PythonEventCounter])
@pytest.mark.parametrize(
    ("contexts", "events"),
    [
        ({}, {1 << 16: {}}),
        ({}, {-1: {}}),
        ({}, {0: {1 << 20: []}}),
        ({}, {0: {-1: []}}),
        ({}, {0: {0: [(7, 0)]}}),
        ({}, {0: {0: [(-1, 0)]}}),
        ({}, {0: {0: [(FIXED, -1)]}}),
        ({0: [(FIXED, 1 << 57)]}, {0: {0: []}}),
    ],
)
def test_description_out_of_range(make: Counter, contexts: Any, events: Any) -> None:
    with pytest.raises(UsageError):
        make(contexts, events)


def test_one_stream_file() -> None:
    event = Event.make(1, bytes(5), False)
    data = packet([event, event], padding=4) + packet([event])
    assert count_events(data, CONTEXTS[3], EVENTS) == 3
    assert count_events(b"", [], {}) == 0
    with pytest.raises(DecodeError, match="packet header cut off"):
        count_events(data[:83], CONTEXTS[3], EVENTS)
