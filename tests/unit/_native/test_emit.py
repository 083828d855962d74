# SPDX-License-Identifier: MIT
"""The native tracepoint: values to bytes, who records, what is lost."""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ustconsumer._native.emit import Channel, Recorder, Tracepoint, Writer, quiesce
from ustconsumer._native.ring import Ring
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.paths import possible_cpus
from ustconsumer.ringbuffer.allocate import create_memory, initialise
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.tracer import types

UUID = bytes(range(16))
CHANNEL_ID = 5
EVENT_ID = 9
#: Of the first event of a buffer: 65535, id, time.
EXTENDED = struct.Struct("<HIQ")


class Buffers:
    """One channel's buffers, one per CPU, and what was written into them."""

    def __init__(self, subbuf_size: int = 4096, num_subbuf: int = 4, **options: Any):
        layout = RING_LAYOUTS["ust-9-x86_64"]
        contexts = options.pop("contexts", ())
        blocking_ms = options.pop("blocking_ms", 0)
        self.geometry = Geometry(layout, subbuf_size, num_subbuf, **options)
        self.channel = Channel(contexts, blocking_ms=blocking_ms)
        self.memories: list[mmap.mmap] = []
        for cpu in range(possible_cpus()):
            fd = create_memory(self.geometry, "test")
            memory = mmap.mmap(fd, self.geometry.file_size)
            os.close(fd)
            identity: dict[str, Any] = {"uuid": UUID, "cpu": cpu}
            initialise(
                memory,
                self.geometry,
                stream_nr=cpu,
                channel_id=CHANNEL_ID,
                now=1000,
                active_readers=0,
                **identity,
            )
            self.channel.add_stream(
                memory, self.geometry.places(), stream_id=CHANNEL_ID, wake_fd=-1, **identity
            )
            self.memories.append(memory)

    def close(self) -> None:
        self.channel.release()
        for memory in self.memories:
            memory.close()

    def used(self) -> list[int]:
        """Bytes in each buffer after the packet header it began with."""
        return [self._control(memory, "offset") - 84 for memory in self.memories]

    def lost(self, counter: str) -> int:
        return sum(self._control(memory, counter) for memory in self.memories)

    def _control(self, memory: mmap.mmap, name: str) -> int:
        value: int = self.geometry.layout.control.get(memory, 0, name)
        return value

    def record(self) -> bytes:
        """Return the one event there is, without its header; check the header."""
        ((cpu, length),) = [(cpu, used) for cpu, used in enumerate(self.used()) if used]
        at = self.geometry.data + 84
        raw = self.memories[cpu][at : at + length]
        marker, event_id, now = EXTENDED.unpack_from(raw)
        assert (marker, event_id) == (65535, EVENT_ID)
        assert 0 <= time.monotonic_ns() - now < 60e9
        return raw[EXTENDED.size :]


@contextlib.contextmanager
def buffers(**options: Any) -> Iterator[Buffers]:
    made = Buffers(**options)
    try:
        yield made
    finally:
        made.close()


def tracepoint(truncate: bool = False, **fields: object) -> Tracepoint:
    specs = []
    for name, kind in fields.items():
        field = types.resolve(kind)
        labels = field.values if isinstance(field, types.Enumeration) else None
        specs.append((name, field.code, labels))
    return Tracepoint("shop:order", tuple(specs), truncate)


def recorded(
    point: Tracepoint, *values: object, contexts: tuple[Any, ...] = (), **named: object
) -> bytes:
    with buffers(contexts=contexts) as made:
        point.bind((Recorder(made.channel, EVENT_ID),))
        point(*values, **named)
        return made.record()


INTEGERS = [
    (getattr(types, f"{sign}{size}"), sign == "i", size)
    for sign in "iu"
    for size in (8, 16, 32, 64)
]
COLOR = types.enumeration({"red": 0, "green": (3, 9), "none": -1}, name="color")


@pytest.mark.parametrize(("kind", "signed", "size"), INTEGERS)
def test_integers_at_their_limits(kind: object, signed: bool, size: int) -> None:
    point = tracepoint(value=kind)
    least = -(1 << size - 1) if signed else 0
    most = least + (1 << size) - 1
    for value in (least, most, 1):
        expected = value.to_bytes(size // 8, "little", signed=signed)
        assert recorded(point, value) == expected
    for value in (least - 1, most + 1, 1 << 70, -(1 << 70)):
        with pytest.raises(
            OverflowError, match=f"shop:order: field 'value': .* does not fit .{size}"
        ):
            recorded(point, value)
    cut = tracepoint(truncate=True, value=kind)
    for value in (least - 1, most + 1, (1 << 70) + 5):
        assert recorded(cut, value) == (value & (1 << size) - 1).to_bytes(size // 8, "little")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (types.f64, 2.5, struct.pack("<d", 2.5)),
        (types.f64, 7, struct.pack("<d", 7)),
        (types.f32, 0.1, struct.pack("<f", 0.1)),
        (types.f32, float("inf"), struct.pack("<f", float("inf"))),
        (types.string, "tea", b"tea\0"),
        (types.string, "", b"\0"),
        (types.string, "h\xe9llo \U0001f375", "h\xe9llo \U0001f375".encode() + b"\0"),
        (bytes, b"a\0b", b"\3\0\0\0a\0b"),
        (bytes, bytearray(b"ab"), b"\2\0\0\0ab"),
        (bytes, memoryview(b"abcd")[::2], b"\2\0\0\0ac"),
        (bytes, [1, 255], b"\2\0\0\0\1\xff"),
        (types.sequence(types.i8), (-1,), b"\1\0\0\0\xff"),
        (types.sequence(types.u32), range(2), struct.pack("<III", 2, 0, 1)),
        (types.sequence(types.i64), iter([-5]), struct.pack("<Iq", 1, -5)),
        (types.sequence(types.u16), [], struct.pack("<I", 0)),
        (COLOR, "green", struct.pack("<i", 3)),
        (COLOR, "none", struct.pack("<i", -1)),
        (COLOR, 77, struct.pack("<i", 77)),
        (bool, True, b"\1"),
    ],
)
def test_values(kind: object, value: object, expected: bytes) -> None:
    assert recorded(tracepoint(value=kind), value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "error", "says"),
    [
        (types.u32, "1", TypeError, "'1' is not an integer"),
        (types.u32, 1.0, TypeError, "1.0 is not an integer"),
        (types.u32, None, TypeError, "None is not an integer"),
        (types.f64, "1", TypeError, "'1' is not a real number"),
        (types.f64, 10**400, OverflowError, "does not fit f64"),
        (types.f32, 1e39, OverflowError, "does not fit f32"),
        (types.string, b"tea", TypeError, "b'tea' is not a str"),
        (types.string, "a\0b", ValueError, "holds a NUL character"),
        (types.string, "a\udc80", ValueError, "cannot be encoded in UTF-8"),
        (bytes, "tea", TypeError, "'tea' is not a sequence of integers"),
        (bytes, 5, TypeError, "5 is not a sequence of integers"),
        (bytes, [256], OverflowError, "256 does not fit u8"),
        (types.sequence(types.i16), [1, "x"], TypeError, "'x' is not an integer"),
        (COLOR, "blue", ValueError, "'blue' is none of its labels"),
        (COLOR, [], ValueError, "is none of its labels"),
        (COLOR, 1 << 40, OverflowError, "does not fit i32"),
        (types.string, "x" * 500 + "\0", ValueError, r"\.\.\. holds a NUL"),
    ],
)
def test_values_that_do_not_fit(
    kind: object, value: object, error: type[Exception], says: str
) -> None:
    point = tracepoint(first=types.u8, value=kind)
    with buffers() as made:
        point.bind((Recorder(made.channel, EVENT_ID),))
        with pytest.raises(error, match=f"shop:order: field 'value': .*{says}"):
            point(1, value)
        assert set(made.used()) == {0}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (types.string, "a\0b", b"a\0"),
        (types.string, "a\udc80b\0c", b"a?b\0"),
        (types.f32, 1e39, struct.pack("<f", float("inf"))),
        (types.f64, -(10**400), struct.pack("<d", float("-inf"))),
        (bytes, [257], b"\1\0\0\0\1"),
    ],
)
def test_truncation_where_declared(kind: object, value: object, expected: bytes) -> None:
    assert recorded(tracepoint(truncate=True, value=kind), value) == expected


def test_more_fields_than_fit_on_the_stack() -> None:
    names = [f"f{number}" for number in range(40)]
    point = tracepoint(**dict.fromkeys(names, types.u16))
    assert recorded(point, *range(40)) == struct.pack("<40H", *range(40))
    by_name = dict(reversed(list(zip(names, range(40), strict=True))))
    assert recorded(point, **by_name) == struct.pack("<40H", *range(40))


def test_positions_and_names() -> None:
    point = tracepoint(number=types.u32, item=types.string)
    expected = struct.pack("<I", 1) + b"tea\0"
    for record in (
        recorded(point, 1, "tea"),
        recorded(point, 1, item="tea"),
        recorded(point, item="tea", number=1),
        # Not the interned string.
        recorded(point, **{"".join(["nu", "mber"]): 1, "".join(["it", "em"]): "tea"}),
    ):
        assert record == expected
    with buffers() as made:
        point.bind((Recorder(made.channel, EVENT_ID),))
        for values, named, says in [
            ((1,), {}, r"takes 2 values \(number, item\), 1 given"),
            ((1, "a", 2), {}, "takes 2 values .*, 3 given"),
            ((1,), {"number": 1}, "lacks a value for item"),
            ((1,), {"price": 1}, "lacks a value for item"),
            ((1, "a"), {"item": "b"}, "takes 2 values .*, 3 given"),
            ((), {"number": 1}, "lacks values for item"),
            ((1, "a"), {"price": 1}, "has no field 'price'"),
        ]:
            with pytest.raises(TypeError, match=says):
                point(*values, **named)
        assert set(made.used()) == {0}


def test_a_call_by_its_name() -> None:
    point = tracepoint(number=types.u8, item=types.string)
    with buffers() as made:
        point.bind((Recorder(made.channel, EVENT_ID),))
        point.__call__(1, item="tea")
        assert made.record() == b"\1tea\0"


def test_disabled_looks_at_nothing() -> None:
    point = tracepoint(number=types.u32)
    assert not point.enabled
    assert point("nonsense", 1, x=2) is None  # type: ignore[func-returns-value]
    with buffers() as made:
        point.bind((Recorder(made.channel, EVENT_ID),))
        assert point.enabled
        point.bind(())
        assert not point.enabled
        point(1)
        assert set(made.used()) == {0}


def test_an_event_goes_to_everybody_who_records_it() -> None:
    point = tracepoint(number=types.u8)
    with buffers() as one, buffers() as two, buffers() as three:
        point.bind((Recorder(one.channel, EVENT_ID), Recorder(two.channel, EVENT_ID)))
        assert point.emit_to(Recorder(three.channel, EVENT_ID), 7)
        point(6)
        assert [made.record() for made in (one, two, three)] == [b"\6", b"\6", b"\7"]


def test_filters_and_notifiers_get_the_values() -> None:
    kinds: dict[str, object] = {
        "a": types.i8,
        "b": types.u64,
        "c": types.f32,
        "d": types.string,
        "e": bytes,
        "f": types.sequence(types.i16),
        "g": COLOR,
    }
    values = (-1, (1 << 64) - 1, 0.1, "h\xe9", b"a\0", [-3, 4], "none")
    (single,) = struct.unpack("<f", struct.pack("<f", 0.1))
    expected = (-1, (1 << 64) - 1, single, "h\xe9".encode(), b"a\0", (-3, 4), -1)
    seen: list[object] = []

    def rejects(event: tuple[object, ...]) -> bool:
        seen.append(event)
        return False

    def fails(event: tuple[object, ...]) -> bool:
        raise ZeroDivisionError

    point = tracepoint(**kinds)
    with buffers() as made:
        point.bind((Recorder(made.channel, EVENT_ID, (fails, rejects)),), (seen.append, fails))
        point(*values)
        assert seen == [expected, expected]
        assert set(made.used()) == {0}
        point.bind((Recorder(made.channel, EVENT_ID, (rejects, lambda event: 1)),))
        point(*values)
        assert len(made.record()) == 1 + 8 + 4 + 4 + 4 + 2 + 4 + 4 + 4


def test_an_interrupt_in_a_filter_is_not_swallowed() -> None:
    def interrupted(event: tuple[object, ...]) -> bool:
        raise KeyboardInterrupt

    point = tracepoint(number=types.u8)
    with buffers() as made:
        point.bind((Recorder(made.channel, EVENT_ID, (interrupted,)),))
        with pytest.raises(KeyboardInterrupt):
            point(1)
        point.bind((Recorder(made.channel, EVENT_ID),))
        point(2)
        assert made.record() == b"\2"
    assert quiesce(1000)


def test_contexts() -> None:
    names = ("vpid", "vtid", "pthread_id", "procname", "vuid", "vegid", "cpu_id")
    contexts = (*((name, None) for name in names), ("u64", 4026531836))
    found: list[tuple[bytes, int, int, str]] = []

    def emit() -> None:
        record = recorded(tracepoint(), contexts=contexts)
        with open(f"/proc/self/task/{threading.get_native_id()}/comm") as file:
            found.append((record, threading.get_native_id(), threading.get_ident(), file.read()))

    emit()
    thread = threading.Thread(target=emit)
    thread.start()
    thread.join()
    assert len({vtid for _, vtid, _, _ in found}) == 2
    for record, vtid, ident, comm in found:
        values = struct.unpack("<iiQ17sIIiQ", record)
        procname = values[3].rstrip(b"\0").decode()
        assert values[:3] == (os.getpid(), vtid, ident)
        assert procname == comm.strip()
        assert values[4:6] == (os.getuid(), os.getegid())
        assert 0 <= values[6] < possible_cpus()
        assert values[7] == 4026531836


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, b"\0"),
        (-5, b"\4" + struct.pack("<q", -5)),
        (1 << 70, b"\0"),
        (0.5, b"\12" + struct.pack("<d", 0.5)),
        ("task", b"\13task\0"),
        ("a\0b", b"\13a\0"),
        (b"bytes", b"\0"),
        (ZeroDivisionError(), b"\0"),
    ],
)
def test_contexts_of_the_application(answer: object, expected: bytes) -> None:
    def getter() -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    contexts = (("vpid", None), ("app", getter), ("vtid", None))
    record = recorded(tracepoint(number=types.u8), 3, contexts=contexts)
    ids = struct.pack("<i", os.getpid()), struct.pack("<i", threading.get_native_id())
    assert record == ids[0] + expected + ids[1] + b"\3"


def test_what_is_too_big_for_a_sub_buffer_is_counted_and_disturbs_nothing() -> None:
    point = tracepoint(payload=types.string)
    with buffers(subbuf_size=4096) as made:
        point.bind((Recorder(made.channel, EVENT_ID),))
        point("x" * (1 << 20))
        assert made.lost("lost_big") == 1
        assert set(made.used()) == {0}
        # The largest that fits: all but the packet's and the event's header, and the NUL.
        point("y" * (4096 - 84 - EXTENDED.size - 1))
        assert made.record() == b"y" * (4096 - 84 - EXTENDED.size - 1) + b"\0"
        point("z" * (4096 - 84 - 6))  # one byte too many with a compact header
        assert made.lost("lost_big") == 2


@pytest.mark.parametrize("overwrite", [False, True])
def test_recorded_and_lost_is_emitted(overwrite: bool) -> None:
    point = tracepoint(payload=types.string)
    count = 1000
    with buffers(overwrite=overwrite) as made:
        point.bind((Recorder(made.channel, EVENT_ID),))
        for _ in range(count):
            point("x" * 100)
        lost = made.lost("lost_full")
        if overwrite:
            assert lost == 0
            return
        # A compact header takes 6 bytes, that of a buffer's first event 14; what a machine
        # that stops for 134 ms adds is less than one event.
        per_packet = (4096 - 84 - 8) // 107
        buffers_used = sum(1 for used in made.used() if used)
        assert count - lost in {4 * per_packet * n for n in range(1, buffers_used + 1)} or (
            buffers_used > 1
        )
        assert lost >= count - 4 * per_packet * buffers_used


def test_waiting_for_room_gives_the_reader_its_turn() -> None:
    """With a time-out nothing is lost while a reader makes room, in another thread."""
    point = tracepoint(payload=types.string)
    with buffers(num_subbuf=2, blocking_ms=-1) as made:
        rings = [
            Ring(memory, made.geometry.places(), uuid=UUID, stream_id=CHANNEL_ID, cpu=cpu)
            for cpu, memory in enumerate(made.memories)
        ]
        ended = threading.Event()
        packets = 0

        def read() -> None:
            nonlocal packets
            while not ended.is_set():
                for ring in rings:
                    while ring.get_next():
                        packets += 1
                        ring.put_next()
                time.sleep(0.001)

        reader = threading.Thread(target=read)
        reader.start()
        point.bind((Recorder(made.channel, EVENT_ID),))
        try:
            for _ in range(1000):
                point("x" * 100)
        finally:
            ended.set()
            reader.join()
            for ring in rings:
                ring.release()
        assert made.lost("lost_full") == 0
        assert packets >= 20


def test_waiting_ends_and_the_event_is_lost() -> None:
    point = tracepoint(payload=types.string)
    with buffers(num_subbuf=2, blocking_ms=30) as made:
        point.bind((Recorder(made.channel, EVENT_ID),))
        begin = time.monotonic()
        while made.lost("lost_full") == 0:
            point("x" * 1000)
        assert time.monotonic() - begin >= 0.03


def test_a_channel_that_goes_while_an_event_waits_for_room() -> None:
    point = tracepoint(payload=types.string)
    with buffers(num_subbuf=2, blocking_ms=-1) as made:
        point.bind((Recorder(made.channel, EVENT_ID),))
        emitter = threading.Thread(target=lambda: [point("x" * 1000) for _ in range(100)])
        emitter.start()
        assert not quiesce(50)  # somebody waits
        point.bind(())
        made.channel.release()
        emitter.join(30)
        assert not emitter.is_alive()
        assert quiesce(1000)


def test_a_released_channel_records_nothing() -> None:
    point = tracepoint(number=types.u8)
    with buffers() as made:
        recorder = Recorder(made.channel, EVENT_ID)
        point.bind((recorder,))
        made.channel.release()
        point(1)
        assert not point.emit_to(recorder, 1)
        assert set(made.used()) == {0}


def test_memory_that_is_too_short_is_refused() -> None:
    geometry = Geometry(RING_LAYOUTS["ust-9-x86_64"], 4096, 2)
    short = bytearray(geometry.file_size - 1)
    identity: dict[str, Any] = {"uuid": UUID, "stream_id": 1, "cpu": 0, "wake_fd": -1}
    with pytest.raises(ValueError, match=f"{geometry.file_size} are needed"):
        Channel().add_stream(short, geometry.places(), **identity)
    with pytest.raises(ValueError, match=f"{geometry.file_size} are needed"):
        Writer(short, geometry.places(), **identity)


@pytest.mark.parametrize("page", [2, 1 << 40])
def test_an_id_that_selects_no_page_is_not_followed(page: int) -> None:
    point = tracepoint(number=types.u8)
    with buffers() as made:
        point.bind((Recorder(made.channel, EVENT_ID),))
        for memory in made.memories:
            at = made.geometry.wsb
            memory[at : at + 8] = ((1 << 31) + page).to_bytes(8, "little")
        point(1)  # no crash: what is reserved stays uncommitted


def test_values_are_let_go() -> None:
    """Neither a success nor an error keeps what a call was given."""
    point = tracepoint(first=types.string, second=types.sequence(types.u32), third=types.u8)
    with buffers(subbuf_size=1 << 20) as made:
        point.bind((Recorder(made.channel, EVENT_ID, (lambda event: True,)),))
        text, numbers = "x" * 1000, list(range(1000, 1010))
        counts = sys.getrefcount(text), sys.getrefcount(numbers), sys.getrefcount(numbers[0])
        for third in (1, 300, "x", 2):
            with contextlib.suppress(OverflowError, TypeError):
                point(text, numbers, third)
        gc.collect()
        now = sys.getrefcount(text), sys.getrefcount(numbers), sys.getrefcount(numbers[0])
        assert now == counts


def test_a_call_is_a_vectorcall() -> None:
    """No tuple or dict is made of the arguments."""
    assert Tracepoint.__flags__ & 1 << 11  # Py_TPFLAGS_HAVE_VECTORCALL
    assert callable(tracepoint())
