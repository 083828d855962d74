# SPDX-License-Identifier: MIT
"""A traced program of another LTTng-UST version, as far as its protocol and memory show.

Speaks as a tracer of ABI 8 (2.12), 9 (2.13) or 10 (2.14) does; one event, one integer
field. Structures are spelled out here and not taken from the package's rows.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import socket
import struct
import threading
import time
from pathlib import Path

from helpers.ringwriter import RingWriter

from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory

__all__ = ["FakeApp"]

_REGISTRATION = struct.Struct("<14I16s64x")
_COMMAND = struct.Struct("<II32x572s")
_REPLY = struct.Struct("<IIii32x276s")
_MAGIC = 0xC57C57C5
_SESSION, _VERSION, _CHANNEL, _STREAM, _EVENT, _ENABLE = 0x40, 0x41, 0x51, 0x60, 0x61, 0x80
_MAKE_HANDLES = (_SESSION, _CHANNEL, _EVENT)
#: From the facts of the 2.12 and 2.14 headers: where the blob tells the geometry.
_BLOB_SUBBUF_SIZE, _BLOB_NUM_SUBBUF, _BLOB_MODE, _BLOB_ID = 128, 152, 192, 92


def _field() -> bytes:
    """Descriptor of ``uint32_t value``."""
    integer = struct.pack("<IIIIiH", 32, 0, 0, 10, 0, 8)
    return struct.pack("<256sI", b"value", 0) + integer.ljust(660 - 0, b"\0")[:660]


class FakeApp:
    """One registered program; runs in a thread until `close`.

    Parameters
    ----------
    rundir : path
        With the registry's sockets.
    major : int
        8, 9 or 10.
    """

    def __init__(self, rundir: Path, major: int, name: bytes = b"fake", bits: int = 64) -> None:
        self.major = major
        self.ready = threading.Event()
        self.event_id = -1
        self.refused = threading.Event()
        #: names and log levels of the event rules it got
        self.rules: list[tuple[bytes, int, int]] = []
        self._rings: list[RingWriter] = []
        self._maps: list[mmap.mmap] = []
        self._blob = b""
        self._handles = 0
        self._channel = self._session = 0
        self._sockets = []
        for kind in (0, 1):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.connect(os.fspath(rundir / "lttng-ust-sock-8"))
            pid, alignments = os.getpid(), (8, 8, 8, 8, 8)
            sock.sendall(
                _REGISTRATION.pack(
                    *(_MAGIC, major, 0, pid, os.getppid(), os.getuid(), os.getgid(), bits),
                    *(*alignments, kind, name),
                )
            )
            self._sockets.append(sock)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def write(self, count: int) -> None:
        """Write events into the first stream."""
        for value in range(count):
            payload = struct.pack("<I", value)
            assert self._rings[0].write(self.event_id, payload, time.monotonic_ns()) == 0

    def scribble(self, chance: random.Random, words: int) -> None:
        """Store random bytes over what the buffers' control structures say."""
        for memory in self._maps:
            for _ in range(words):
                at = chance.randrange(128, 4096 - 8)
                memory[at : at + 8] = chance.randbytes(8)

    def close(self) -> None:
        """Leave as a program that exits does."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._thread.join(10)
        for ring in self._rings:
            ring.memory.release()
            os.close(ring.producer.wake_fd)
        for memory in self._maps:
            memory.close()

    def _serve(self) -> None:
        command = self._sockets[0]
        with contextlib.suppress(OSError, ConnectionError):
            while True:
                handle, number, payload = _COMMAND.unpack(_exactly(command, _COMMAND.size))
                value, answer = self._obey(handle, number, payload)
                command.sendall(_REPLY.pack(handle, number, 0, value, answer))
                if number == _ENABLE and handle == self._session:
                    self.ready.set()
        self.refused.set()

    def _obey(self, handle: int, number: int, payload: bytes) -> tuple[int, bytes]:
        command = self._sockets[0]
        if number == _VERSION:
            return 0, struct.pack("<III", 2, self.major + 4, 0)
        if number == _CHANNEL:
            (length,) = struct.unpack_from("<Q", payload)
            self._blob = _exactly(command, length)
            _take_fds(command, 1)
        elif number == _STREAM:
            length, _ = struct.unpack_from("<QI", payload)
            self._map(_take_fds(command, 2), length)
        elif number == _EVENT:
            name, kind, level = struct.unpack_from("<4x256sii", payload)
            self.rules.append((name.rstrip(b"\0"), kind, level))
        elif number == _ENABLE and handle == self._session:
            self._register(handle)
        if number not in _MAKE_HANDLES:
            return 0, b""
        self._handles += 1
        if number == _SESSION:
            self._session = self._handles
        elif number == _CHANNEL:
            self._channel = self._handles
        return self._handles, b""

    def _map(self, fds: list[int], length: int) -> None:
        size, num = (
            struct.unpack_from("<Q", self._blob, at)[0]
            for at in (_BLOB_SUBBUF_SIZE, _BLOB_NUM_SUBBUF)
        )
        (mode,) = struct.unpack_from("<I", self._blob, _BLOB_MODE)
        layout = RING_LAYOUTS[f"ust-{self.major}-x86_64"]
        geometry = Geometry(layout, size, num, overwrite=mode == 0)
        memory = mmap.mmap(fds[0], length)
        os.close(fds[0])
        self._maps.append(memory)
        producer = Producer(
            StreamMemory(memory, geometry), bytes(16), self._channel_id(), len(self._rings), fds[1]
        )
        producer.uuid = self._private()[100:116]
        self._rings.append(RingWriter(producer))

    def _private(self) -> bytes:
        (at,) = struct.unpack_from("<Q", self._blob, 64)
        return self._blob[at:]

    def _channel_id(self) -> int:
        number: int = struct.unpack_from("<I", self._private(), _BLOB_ID)[0]
        return number

    def _register(self, session: int) -> None:
        """Ask for the event's id, then have the channel declared, as its first start does."""
        notify = self._sockets[1]
        signature, fields = b"unsigned int, value\0", _field()
        assert len(fields) == 920
        head = struct.pack(
            "<III256siIII",
            0,
            session,
            self._channel,
            b"fake:tick",
            13,
            len(signature),
            len(fields),
            0,
        )
        # 2.14 puts a token of its own into what was padding.
        token = struct.pack("<Q", 7) if self.major >= 10 else b""
        notify.sendall((head + token).ljust(316, b"\0") + signature + fields)
        number, code, self.event_id = struct.unpack_from("<IiI", _exactly(notify, 44))
        assert (number, code) == (0, 0)
        notify.sendall(struct.pack("<IIII", 1, session, self._channel, 0).ljust(48, b"\0"))
        number, code, channel, header = struct.unpack_from("<IiII", _exactly(notify, 48))
        assert (number, code, channel, header) == (1, 0, self._channel_id(), 2)


def _exactly(sock: socket.socket, length: int) -> bytes:
    raw = bytearray()
    while len(raw) < length:
        chunk = sock.recv(length - len(raw))
        if not chunk:
            raise ConnectionError
        raw += chunk
    return bytes(raw)


def _take_fds(sock: socket.socket, count: int) -> list[int]:
    byte, fds, _, _ = socket.recv_fds(sock, 1, count)
    assert byte == b"\0"
    assert len(fds) == count
    return fds
