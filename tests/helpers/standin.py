# SPDX-License-Identifier: MIT
"""A receiver for producers that is as old as a test wants: the facts' layouts, nothing of ours.

Written from the byte layouts alone, so that it judges our sender and not its own ideas. It
takes sessions without chunks (to 2.10), keeps every request as it came, and writes the trace.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Message", "StandIn", "stand_in"]

_HEADER = struct.Struct(">QQII")
_DATA = struct.Struct(">QQQII")
_INDEX_MAGIC = 0xC1F1DCC1
_OK = (10).to_bytes(4, "big")


class Message(NamedTuple):
    """A request on the control connection."""

    header: bytes
    command: int
    payload: bytes


class StandIn:
    """A relay of one version.

    Attributes
    ----------
    control_port, data_port : int
    messages : list of Message
        Every request, in order.
    """

    def __init__(self, minor: int, output: Path, host: str = "127.0.0.1"):
        self.minor = minor
        self.output = output
        self.messages: list[Message] = []
        self.data_headers: list[bytes] = []
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._lock = threading.Lock()
        #: by handle
        self._files: list[Path] = []
        self._packets: dict[tuple[int, int], tuple[int, int]] = {}
        self._entries: dict[tuple[int, int], bytes] = {}
        self._open: list[socket.socket] = []
        self.control_port = self._listen(host, self._control)
        self.data_port = self._listen(host, self._data)

    def close(self) -> None:
        """Close every socket."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def commands(self) -> list[int]:
        """Return the numbers of the requests so far."""
        return [message.command for message in self.messages]

    def _listen(self, host: str, serve) -> int:  # type: ignore[no-untyped-def]
        listener = socket.create_server((host, 0), family=self._family)
        self._open.append(listener)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    self._open.append(connection)
                    threading.Thread(target=run, args=(connection,), daemon=True).start()

        def run(connection: socket.socket) -> None:
            with contextlib.suppress(EOFError, OSError), connection:
                serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        port: int = listener.getsockname()[1]
        return port

    def _control(self, connection: socket.socket) -> None:
        while True:
            header = _exactly(connection, _HEADER.size)
            _, size, command, _ = _HEADER.unpack(header)
            payload = _exactly(connection, size)
            with self._lock:
                self.messages.append(Message(header, command, payload))
                answer = self._answer(command, payload)
            connection.sendall(answer)

    def _answer(self, command: int, payload: bytes) -> bytes:
        if command == 5:
            return struct.pack(">II", 2, self.minor)
        if command == 2:
            answer = struct.pack(">QI", 1, 10)
            return answer + (struct.pack(">I", 4) + b"s/1\0" if self.minor >= 11 else b"")
        if command == 1:
            return self._add_stream(payload)
        if command == 6:
            handle, padding = struct.unpack_from(">QI", payload)
            self._append(handle, payload[12:] + bytes(padding))
            return b""
        if command == 13:
            self._index(payload)
        if command in (8, 11):
            return bytes(4)
        if command == 20:
            return struct.pack(">II", 10, 4) + b"s/1\0"
        if command == 21:
            return _OK + b"\0"
        if command == 22:
            return struct.pack(">IQ", 10, 1)
        return _OK

    def _add_stream(self, payload: bytes) -> bytes:
        if self.minor >= 11:
            names, paths = struct.unpack_from(">II", payload)
            name, path = payload[32 : 32 + names], payload[32 + names : 32 + names + paths]
        else:
            name, path = payload[:264], payload[264 : 264 + 4096]
        place = self.output / _text(path).lstrip("/") / _text(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        # Neither is written over.
        place.touch(exist_ok=False)
        self._files.append(place)
        return struct.pack(">QI", len(self._files), 10)

    def _data(self, connection: socket.socket) -> None:
        while True:
            header = _exactly(connection, _DATA.size)
            _, handle, net, size, padding = _DATA.unpack(header)
            content = _exactly(connection, size)
            with self._lock:
                self.data_headers.append(header)
                offset = self._append(handle, content + bytes(padding))
                self._packets[handle, net] = offset, size + padding
                self._pair(handle, net)

    def _append(self, handle: int, content: bytes) -> int:
        with open(self._files[handle - 1], "ab") as file:
            offset = file.tell()
            file.write(content)
        return offset

    def _index(self, payload: bytes) -> None:
        assert len(payload) == (80 if self.minor >= 8 else 64)
        handle, net, packet_size = struct.unpack_from(">3Q", payload)
        if packet_size:
            self._entries[handle, net] = payload[16:]
            self._pair(handle, net)

    def _pair(self, handle: int, net: int) -> None:
        key = handle, net
        if key not in self._packets or key not in self._entries:
            return
        (offset, size), entry = self._packets.pop(key), self._entries.pop(key)
        assert int.from_bytes(entry[:8], "big") == 8 * size
        place = self._files[handle - 1]
        index = place.parent / "index" / f"{place.name}.idx"
        index.parent.mkdir(exist_ok=True)
        with open(index, "ab") as file:
            if not file.tell():
                version = 1 if self.minor >= 8 else 0
                file.write(struct.pack(">4I", _INDEX_MAGIC, 1, version, 8 + len(entry)))
            file.write(offset.to_bytes(8, "big") + entry)


@contextlib.contextmanager
def stand_in(minor: int, output: Path, host: str = "127.0.0.1") -> Iterator[StandIn]:
    """Run a receiver until the end of the block."""
    relay = StandIn(minor, output, host)
    try:
        yield relay
    finally:
        relay.close()


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(size - len(parts), 1 << 16))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode()
