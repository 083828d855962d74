# SPDX-License-Identifier: MIT
"""Traces written byte by byte: every type in random company, with random values.

`write` makes one that is complete; of `Packet` and `tick` are those that lack something.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from ustconsumer.abi.packet import CTF_MAGIC, DATA_PACKET
from ustconsumer.ctf.metadata import (
    ProcessDescription,
    TraceDescription,
    event_block,
    stream_block,
    trace_header,
)
from ustconsumer.ctf.types import (
    Array,
    EnumEntry,
    Enumeration,
    Field,
    FloatingPoint,
    Integer,
    Sequence,
    String,
    Struct,
    Variant,
)

__all__ = ["OFFSET", "UUID", "Maker", "Packet", "description", "tick", "write", "write_ticks"]

UUID = "0c4b900e-fae8-4c54-89ca-bdd44d2b0cfb"
#: Cycle 0 in nanoseconds since the epoch.
OFFSET = 1795376888195931449


class Packet(NamedTuple):
    """A data packet of LTTng."""

    begin: int
    end: int
    records: bytes = b""
    stream_id: int = 0
    cpu_id: int = 0
    sequence: int = 0
    discarded: int = 0

    def raw(self, uuid: str = UUID) -> bytes:
        content = DATA_PACKET.size + len(self.records)
        size = -(-content // 4096) * 4096
        header = DATA_PACKET.pack(
            {
                "magic": CTF_MAGIC,
                "uuid": bytes.fromhex(uuid.replace("-", "")),
                "stream_id": self.stream_id,
                "stream_instance_id": self.cpu_id,
                "timestamp_begin": self.begin,
                "timestamp_end": self.end,
                "content_size": content * 8,
                "packet_size": size * 8,
                "packet_seq_num": self.sequence,
                "events_discarded": self.discarded,
                "cpu_id": self.cpu_id,
            }
        )
        return (header + self.records).ljust(size, b"\0")


def description(process: ProcessDescription | None = None, uuid: str = UUID) -> TraceDescription:
    """Return a trace on a host whose name is not ASCII."""
    return TraceDescription(
        uuid=uuid,
        tracer_major=2,
        tracer_minor=13,
        buffering_id=0,
        session="handmade",
        created="20261122T200338+0000",
        hostname="hôst",
        clock_uuid=UUID,
        clock_offset=OFFSET,
        process=process,
    )


Encode = Callable[[], bytes]
Made = tuple[list[Field], Encode]

_LABELS = ("a", "b", "c d", 'q"u', "back\\slash", "é", "100%s", "new\nline", "%", "'", "?")


class Maker:
    """Makes fields, and bytes of values for them.

    Parameters
    ----------
    choose : Random
        Decides.
    """

    def __init__(self, choose: random.Random) -> None:
        self.enums: dict[int, tuple[EnumEntry, ...]] = {}
        self._choose = choose
        self._makers = (
            self._integer,
            self._real,
            self._string,
            self._array,
            self._letters,
            self._sequence,
            self._text,
            self._enumeration,
            self._struct,
            self._variant,
        )

    def fields(self, count: int) -> tuple[tuple[Field, ...], Encode]:
        """Return fields of a record, and what makes the bytes of one."""
        made = [self.field(f"f{number}") for number in range(count)]
        fields = tuple(field for fields, _ in made for field in fields)
        return fields, lambda: b"".join(encode() for _, encode in made)

    def field(self, name: str, depth: int = 0) -> Made:
        makers = self._makers if depth < 2 else self._makers[:-2]
        return self._choose.choice(makers)(name, depth)

    def number(self, type_: Integer) -> bytes:
        """Return a value, in its bytes: often one of the extremes."""
        low, high = _bounds(type_)
        choose = self._choose
        anything = choose.randint(low, high)
        value = choose.choice((low, high, 0, 1, -1, choose.randint(0, 20), anything))
        value = max(low, min(high, value))
        order: Literal["big", "little"] = "big" if type_.reverse_byte_order else "little"
        return value.to_bytes(type_.size // 8, order, signed=type_.signed)

    def letters(self, count: int) -> bytes:
        """Return any bytes: printable, control characters, NUL, no UTF-8."""
        choose = self._choose
        return bytes(
            choose.choice((choose.randrange(256), choose.randint(32, 126), choose.randrange(32)))
            for _ in range(count)
        )

    def _type(self) -> Integer:
        choose = self._choose
        return Integer(
            choose.choice((8, 8, 16, 32, 64, 64, 24, 40, 48, 56)),
            choose.random() < 0.5,
            choose.choice((2, 8, 10, 10, 10, 16, 16)),
            reverse_byte_order=choose.random() < 0.3,
        )

    def _integer(self, name: str, depth: int) -> Made:
        type_ = self._type()
        return [Field(name, type_)], lambda: self.number(type_)

    def _real(self, name: str, depth: int) -> Made:
        choose = self._choose
        digits, code = choose.choice((((8, 24), "f"), ((11, 53), "d")))
        reverse = choose.random() < 0.3
        order = ">" if reverse else "<"
        values = (0.0, -0.0, 1.5, 1e30, 0.1, float("inf"), float("nan"), 123456789.0)

        def encode() -> bytes:
            value = choose.choice((*values, choose.random() * 1e6)) * choose.choice((1, -1))
            raw = struct.pack(order + code, value)
            return choose.choice((raw, choose.randbytes(len(raw))))

        return [Field(name, FloatingPoint(*digits, reverse_byte_order=reverse))], encode

    def _string(self, name: str, depth: int) -> Made:
        type_ = String(self._choose.choice(("UTF8", "ASCII")))
        # Also nothing at all.
        return [Field(name, type_)], lambda: self.letters(self._count()).split(b"\0")[0] + b"\0"

    def _array(self, name: str, depth: int) -> Made:
        type_, count = self._type(), self._choose.randint(0, 5)
        return (
            [Field(name, Array(type_, count))],
            lambda: b"".join(self.number(type_) for _ in range(count)),
        )

    def _letters(self, name: str, depth: int) -> Made:
        count = self._choose.randint(0, 20)
        return [Field(name, Array(self._letter(), count))], lambda: self.letters(count)

    def _letter(self) -> Integer:
        choose = self._choose
        return Integer(8, choose.random() < 0.5, encoding=choose.choice(("UTF8", "ASCII")))

    def _count(self) -> int:
        return self._choose.choice((0, 1, 3, self._choose.randint(0, 100)))

    def _sequence(self, name: str, depth: int) -> Made:
        type_ = self._type()
        return self._counted(
            name, type_, lambda count: b"".join(self.number(type_) for _ in range(count))
        )

    def _text(self, name: str, depth: int) -> Made:
        return self._counted(name, self._letter(), self.letters)

    def _counted(self, name: str, element: Integer, make: Callable[[int], bytes]) -> Made:
        length = Integer(self._choose.choice((8, 16, 32, 64)), signed=False)

        def encode() -> bytes:
            count = self._count()
            return count.to_bytes(length.size // 8, "little") + make(count)

        length_name = f"_{name}_length"
        return [Field(length_name, length), Field(name, Sequence(element, length_name))], encode

    def _enumeration(self, name: str, depth: int) -> Made:
        type_ = self._type()
        low, high = _bounds(type_)
        entries = []
        for _ in range(self._choose.randint(1, 8)):
            start = self._choose.choice(
                (self._choose.randint(-5, 20), self._choose.randint(low, high))
            )
            end = start + self._choose.choice((0, 9))
            start, end = (max(low, min(high, value)) for value in (start, end))
            entries.append(EnumEntry(self._choose.choice(_LABELS), start, end))
        return (
            [Field(name, Enumeration("e", type_, self._number(entries)))],
            lambda: self.number(type_),
        )

    def _number(self, entries: Iterable[EnumEntry]) -> int:
        number = len(self.enums)
        self.enums[number] = tuple(entries)
        return number

    def _struct(self, name: str, depth: int) -> Made:
        made = [self.field(f"m{number}", depth + 1) for number in range(self._choose.randint(0, 3))]
        fields = tuple(field for fields, _ in made for field in fields)
        return [Field(name, Struct(fields))], lambda: b"".join(encode() for _, encode in made)

    def _variant(self, name: str, depth: int) -> Made:
        names = ("none", "int8", "some_string", "more")
        choices = [self._one(choice, depth + 1) for choice in names]
        # As LTTng has it: labels are the choices' names with "_" in front.
        entries = [EnumEntry(f"_{name}", at * 2, at * 2 + 1) for at, name in enumerate(names)]
        tag = Enumeration("t", Integer(8, self._choose.random() < 0.5), self._number(entries))
        variant = Variant(f"{name}_tag", tuple(field for field, _ in choices))

        def encode() -> bytes:
            value = self._choose.randrange(8)
            return bytes([value]) + choices[value // 2][1]()

        return [Field(f"{name}_tag", tag), Field(name, variant)], encode

    def _one(self, name: str, depth: int) -> tuple[Field, Encode]:
        while True:
            fields, encode = self.field(name, depth)
            if len(fields) == 1:
                return fields[0], encode


def _bounds(type_: Integer) -> tuple[int, int]:
    if type_.signed:
        return -(1 << type_.size - 1), (1 << type_.size - 1) - 1
    return 0, (1 << type_.size) - 1


def write(directory: Path, seed: int) -> None:
    """Write a trace of one stream: some event classes, contexts, all steps of the clock."""
    choose = random.Random(seed)  # noqa: S311 (the same for a seed)
    maker = Maker(choose)
    contexts, context = maker.fields(choose.randint(0, 4))
    classes = [maker.fields(choose.randint(0, 6)) for _ in range(6)]
    process = ProcessDescription(
        tracer_patchlevel=5, vpid=77, procname='my"proc%s', registered="20261122T200338+0000"
    )
    text = trace_header(description(choose.choice((None, process))))
    text += stream_block(0, contexts, maker.enums)
    for number, (fields, _) in enumerate(classes):
        uri = "http://example.com/%s" if number == 2 else ""
        level = choose.choice((13, 6, 14))
        text += event_block(0, number, f"p:e%{number}", level, fields, uri, maker.enums)
    begin = now = choose.choice((5, 1 << 40))
    records = b""
    for _ in range(60):
        step = choose.choice((0, 1, 1000, 3 * 10**9, choose.randrange(1 << 31)))
        now += step
        number = choose.randrange(len(classes))
        if step >= 1 << 27:
            records += struct.pack("<HIQ", 65535, number, now)
        else:
            records += struct.pack("<HI", number, now & 0xFFFFFFFF)
        records += context() + classes[number][1]()
    directory.mkdir(parents=True)
    (directory / "metadata").write_bytes(text.encode())
    (directory / "channel0_3").write_bytes(Packet(begin, now, records, cpu_id=3).raw())


def tick(time: int, number: int) -> bytes:
    """Return a record of the only event of `write_ticks`."""
    return struct.pack("<HIQI", 65535, 0, time, number)


def write_ticks(directory: Path, uuid: str = UUID, **files: Iterable[Packet]) -> None:
    """Write a trace of files of packets, its events made by `tick`.

    Stream classes are numbered as the packets have it.
    """
    packets = {name: tuple(content) for name, content in files.items()}
    text = trace_header(description(uuid=uuid))
    for number in sorted({packet.stream_id for content in packets.values() for packet in content}):
        text += stream_block(number, ())
        fields = [Field("n", Integer(32, signed=False))]
        text += event_block(number, 0, f"p:tick{number}", 13, fields)
    directory.mkdir(parents=True)
    (directory / "metadata").write_bytes(text.encode())
    for name, content in packets.items():
        (directory / name).write_bytes(b"".join(packet.raw(uuid) for packet in content))
