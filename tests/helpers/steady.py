# SPDX-License-Identifier: MIT
"""A session that must not notice what others do to the relay: streamed, and followed live."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from helpers.relaypeer import Packet, Producer, Viewer, packet_of

__all__ = ["HOST", "Steady", "steady"]

#: Its directory below the relay's.
HOST = "steady"
_INDEX_HEADER = struct.Struct(">4I")
_ENTRY = struct.Struct(">9Q")
_METADATA = b"/* CTF 1.8 */ of a session that goes on\n"
_PAUSE = 0.005


def _packet(number: int) -> Packet:
    return packet_of(number, 4 * (100 + number % 900))


class Steady:
    """Sends packets all the time, a few hundred a second at most, from a thread.

    Attributes
    ----------
    producer : Producer
    sent : int
        Packets so far.
    failed : list
        What went wrong.
    """

    def __init__(self, ports: tuple[int, int], live: int) -> None:
        self.producer = Producer(ports, name=HOST, host=HOST, live_us=1_000_000)
        self.sent = 0
        self._handle = self.producer.add("c_0")
        metadata = self.producer.add("metadata")
        self.producer.metadata(metadata, _METADATA)
        self.producer.publish()
        self._viewer = Viewer(live)
        status, streams = self._viewer.attach(self.producer.session)
        assert (status, sorted(streams)) == (1, ["c_0", "metadata"])
        assert self._viewer.metadata(streams["metadata"]) == (1, _METADATA)
        self._stream = streams["c_0"]
        self._seen = bytearray()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._send, self._follow)]
        self.failed: list[BaseException] = []
        self._count = threading.Semaphore(0)
        for thread in self._threads:
            thread.start()

    @property
    def stream(self) -> int:
        """The handle of its stream."""
        return self._handle

    def stop(self) -> None:
        """Send no more, and wait until everything was seen."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def check(self, output: Path) -> None:
        """Everything arrived, in the files and at the viewer, and nothing else."""
        assert not self.failed, self.failed
        expected = b"".join(_packet(number).stored for number in range(self.sent))
        assert self.sent > 0
        assert self._seen == expected
        trace = output / self.producer.path / "ust" / "uid" / "7" / "64-bit"
        assert (trace / "c_0").read_bytes() == expected
        assert (trace / "metadata").read_bytes() == _METADATA
        raw = (trace / "index" / "c_0.idx").read_bytes()
        # Facts 6.9: the file's offset, then what the index said.
        assert _INDEX_HEADER.unpack_from(raw) == (0xC1F1DCC1, 1, 1, 72)
        assert [entry[0] for entry in _ENTRY.iter_unpack(raw[16:])] == [
            4096 * number for number in range(self.sent)
        ]
        assert sorted(path.name for path in trace.rglob("*")) == [
            "c_0",
            "c_0.idx",
            "index",
            "metadata",
        ]

    def close(self) -> None:
        """Go away."""
        self._viewer.close()
        self.producer.close()

    def _send(self) -> None:
        try:
            while not self._stopping.wait(_PAUSE):
                self.producer.put(self._handle, self.sent, _packet(self.sent))
                self.sent += 1
                self._count.release()
            self.producer.wait(self._handle, self.sent - 1)
        except BaseException as error:
            self.failed.append(error)
        finally:
            self._stopping.set()
            self._count.release()

    def _follow(self) -> None:
        seen = 0
        try:
            while True:
                self._count.acquire()
                if seen == self.sent:
                    return
                self._seen += self._viewer.follow(self._stream, 1)
                seen += 1
        except BaseException as error:
            self.failed.append(error)


@contextlib.contextmanager
def steady(ports: tuple[int, int], live: int, output: str | os.PathLike[str]) -> Iterator[Steady]:
    """Have a session stream during the block; at its end it must be complete."""
    session = Steady(ports, live)
    try:
        yield session
        session.stop()
        session.check(Path(output))
    finally:
        session.stop()
        session.close()
