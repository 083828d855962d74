# SPDX-License-Identifier: MIT
"""Readers that die at a kill point of their native code, and the successor's trace.

``python -P -m helpers.kills MODULE POINT PASSES`` runs every scenario in which the point
can be passed, up to so many times, in both modes, and prints what came of each as JSON:
a list of `Outcome`.

The stream's packets hold numbered events, so that what is in the files can be compared
with what was committed: number by number, packet by packet.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from helpers.killbuild import load
from helpers.rings import CHANNEL_ID, CPU, UUID
from helpers.ringwriter import RingWriter

from ustconsumer._native.ring import DRAIN_EMPTY, Ring
from ustconsumer._native.window import Window
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.consumer.packet import Packet, Stream, Trace
from ustconsumer.consumer.sinks.disk import DiskSink
from ustconsumer.ringbuffer.allocate import create_memory, initialise
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory
from ustconsumer.ringbuffer.python_ring import PythonRing
from ustconsumer.ringbuffer.repair import holes, repair
from ustconsumer.units import CpuId

__all__ = ["Outcome"]

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
SUBBUF_SIZE, NUM_SUBBUF = 4096, 4
LENGTH = 700
_ENTRY = struct.Struct(">9Q")
_INDEX_HEADER = 16
_IDENTITY = {"uuid": UUID, "stream_id": CHANNEL_ID, "cpu": CPU}
#: Who died before, for points of the take-over itself: there is something to mend.
_BEFORE = [("exchange_swapped", 1), ("get_held", 1), ("put_released", 2), ("exchange_swapped", 4)]


@dataclass
class Outcome:
    """What one scenario came to; the successor's counts must all be 0.

    Attributes
    ----------
    overwrite : bool
    workload : str
        How the reader read: ``drain`` natively, ``take`` packet by packet.
    passes : int
        The reader died when it passed the point for the so-many-th time.
    gap : int
        Packets written between its death and its successor.
    died : bool
        False: the scenario does not pass the point so often.
    mended, repaired : bool
        The reader's side was mended; a hole was repaired.
    lost, twice : int
        Events committed that are not in the file, or twice. In overwrite mode only what
        was not overwritten before the successor came counts as lost.
    problem : str
        Anything else that is wrong.
    """

    overwrite: bool
    workload: str
    passes: int
    gap: int
    died: bool = False
    mended: bool = False
    repaired: bool = False
    lost: int = 0
    twice: int = 0
    problem: str = ""


class Scene:
    """A stream in shared memory, its output, and the event numbers committed so far."""

    def __init__(self, directory: Path, overwrite: bool):
        self.geometry = geometry = Geometry(LAYOUT, SUBBUF_SIZE, NUM_SUBBUF, overwrite=overwrite)
        fd = create_memory(geometry, "kills")
        self.memory = mmap.mmap(fd, geometry.file_size)
        os.close(fd)
        initialise(
            self.memory,
            geometry,
            stream_nr=CPU,
            cpu=CPU,
            channel_id=CHANNEL_ID,
            uuid=UUID,
            now=time.monotonic_ns(),
            active_readers=1,
        )
        self.words = StreamMemory(self.memory, geometry)
        self.producer = Producer(self.words, UUID, CHANNEL_ID, CPU)
        self.writer = RingWriter(self.producer)
        # Survives the one who writes: a bit for each event that was committed.
        self._committed = mmap.mmap(-1, 4096)
        self._numbers = 0
        trace = Trace("t", "ust/uid/1/64-bit", UUID, 1)
        self.stream = Stream(1, trace, "channel0", CHANNEL_ID, CpuId(CPU), geometry)
        self.output = directory
        self.data = directory / trace.path / self.stream.name
        self.index = self.data.parent / "index" / f"{self.stream.name}.idx"

    def ring(self, kind: Any = Ring) -> Any:
        return kind(self.memory, self.geometry.places(), **_IDENTITY)

    def write(self) -> None:
        """Write an event; the number is used up also if it is lost."""
        number = self._numbers
        self._numbers += 1
        payload = struct.pack("<I", number) + bytes([number & 0xFF]) * LENGTH
        if self.writer.write(0, payload, time.monotonic_ns()) == 0:
            self._committed[number] = 1

    def committed(self) -> list[int]:
        return [number for number in range(len(self._committed)) if self._committed[number]]

    def go_on(self) -> None:
        """Number events after those of a process that is gone."""
        self._numbers = max(self.committed(), default=-1) + 1

    def close(self) -> None:
        self.words.release()
        self.memory.close()


def _read(scene: Scene, ring: Any, writer: Any, workload: str) -> None:
    if workload == "drain":
        assert writer.drain(ring, 1 << 20) == DRAIN_EMPTY
        return
    while ring.get_next():
        page, size, content, sequence = ring.mend_held()
        window = Window(scene.memory, scene.geometry.data_at(page), size)
        packet = Packet(scene.stream, window, content, sequence)
        writer.write((packet,))
        packet.release()
        ring.put_next()


def _consume(scene: Scene, kill: Any, workload: str, point: str, passes: int) -> None:
    """Be a consumer beside a writer; the process dies at the point, or when all is done."""
    ring = scene.ring(kill.Ring)
    kill.arm(point, passes)
    ring.take_over()
    sink = DiskSink(scene.output)
    writer = sink.open(scene.stream)
    writer.attach(ring)
    for turn in range(8):
        for _ in range(4):
            scene.write()
        # Ends a packet, or, at a boundary, is an empty one.
        ring.switch(False)
        ring.switch(turn % 4 == 1)
        if turn % 2:
            # Two or three packets: a batch.
            _read(scene, ring, writer, workload)


def _dies(body: Callable[[], None]) -> bool:
    pid = os.fork()
    if not pid:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def _entries(scene: Scene) -> list[tuple[int, ...]]:
    if not scene.index.exists():
        return []
    raw = scene.index.read_bytes()[_INDEX_HEADER:]
    return list(_ENTRY.iter_unpack(raw[: len(raw) // _ENTRY.size * _ENTRY.size]))


def _event_numbers(packet: bytes, content: int) -> Iterator[int]:
    at = LAYOUT.packet.size
    while at < content:
        at += 14 if struct.unpack_from("<H", packet, at)[0] == 65535 else 6
        number = struct.unpack_from("<I", packet, at)[0]
        assert packet[at + 4 : at + 4 + LENGTH] == bytes([number & 0xFF]) * LENGTH
        yield number
        at += 4 + LENGTH
    assert at == content


def _take_over(scene: Scene, outcome: Outcome) -> Ring:
    """Do what a new consumer does, by both definitions: they must agree to the byte."""
    copy = bytearray(scene.memory)
    twin = PythonRing(copy, scene.geometry, **_IDENTITY)  # type: ignore[arg-type]
    ring: Ring = scene.ring()
    outcome.mended = ring.take_over()
    assert twin.take_over() is outcome.mended
    assert bytes(copy) == scene.memory[:]
    assert not ring.take_over(), "a second time there is something to mend"
    return ring


def _succeed(scene: Scene, outcome: Outcome) -> None:
    """Take over, finish the trace, and compare it with what was committed."""
    before = [entry[8] for entry in _entries(scene)]
    scene.go_on()
    closing = scene.ring()
    for _ in range(outcome.gap):
        for _ in range(4):
            scene.write()
        closing.switch(False)
    ring = _take_over(scene, outcome)
    produced = scene.words.load("offset")
    # Everybody who could commit is dead, or outside of the tracer: that is us.
    outcome.repaired = any(True for _ in holes(scene.words, produced))
    repair(scene.producer, produced, None)
    first = scene.words.load("consumed") // SUBBUF_SIZE
    sink = DiskSink(scene.output)
    writer = sink.open(scene.stream)
    writer.attach(ring)
    _read(scene, ring, writer, outcome.workload)
    for _ in range(6):
        scene.write()
    ring.switch(True)
    _read(scene, ring, writer, outcome.workload)
    end = scene.words.load("offset") // SUBBUF_SIZE
    writer.close()
    sink.close()

    entries = _entries(scene)
    data = scene.data.read_bytes()
    numbers: list[int] = []
    kept: list[int] = []
    at = 0
    for entry in entries:
        offset, packet_size, content_size = entry[0], entry[1] // 8, entry[2] // 8
        assert offset == at, "packets do not follow each other"
        packet = data[at : at + packet_size]
        assert LAYOUT.packet.get(packet, 0, "packet_seq_num") == entry[8]
        found = list(_event_numbers(packet, content_size))
        kept += found
        numbers += found
        at += packet_size
    assert at == len(data), "the file goes on after its last packet"
    sequences = [entry[8] for entry in entries]
    assert len(before) == len(set(before)), "a dead consumer wrote a packet twice"
    resumed = max(first, before[-1] + 1 if before else 0)
    assert sequences == before + list(range(resumed, end)), "packets are missing, or twice"
    assert numbers == sorted(numbers), "events are out of order"
    outcome.twice = len(numbers) - len(set(numbers))
    overwritten = scene.geometry.overwrite and resumed > (before[-1] + 1 if before else 0)
    missing = set(scene.committed()) - set(numbers)
    if not overwritten:
        outcome.lost = len(missing)
    else:
        # Those of the packets that are not there: exactly what was overwritten.
        assert outcome.gap, "something was overwritten although there was room"
    ring.release()
    closing.release()


def _play(kill: Any, point: str, outcome: Outcome, before: tuple[str, int] | None) -> None:
    with tempfile.TemporaryDirectory() as directory:
        scene = Scene(Path(directory), outcome.overwrite)
        if before is not None:

            def first() -> None:
                _consume(scene, kill, outcome.workload, *before)

            if not _dies(first):
                return
            scene.go_on()
        outcome.died = _dies(lambda: _consume(scene, kill, outcome.workload, point, outcome.passes))
        if outcome.died or not before:
            try:
                _succeed(scene, outcome)
            except Exception as error:
                outcome.problem = f"{type(error).__name__}: {error}"


def outcomes(kill: Any, point: str, most: int) -> list[Outcome]:
    """Play all scenarios of a point, in which it is passed ``most`` times at most."""
    played = []
    predecessors: Sequence[tuple[str, int] | None] = [None]
    if point.startswith("take_over"):
        predecessors = _BEFORE
    passes_of = range(1, most + 1)
    cases = itertools.product((False, True), ("drain", "take"), predecessors, passes_of, (0, 2, 9))
    for overwrite, workload, before, passes, gap in cases:
        if before is not None and passes > 1:
            continue
        outcome = Outcome(overwrite, workload, passes, gap)
        _play(kill, point, outcome, before)
        played.append(outcome)
    return played


if __name__ == "__main__":
    module = load(Path(sys.argv[1]), "ring")
    json.dump(
        [asdict(each) for each in outcomes(module, sys.argv[2], int(sys.argv[3]))], sys.stdout
    )
