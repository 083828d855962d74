# SPDX-License-Identifier: MIT
"""Peers of a relay that do what a test says, one step after the other: producer and viewer.

They wait for each answer, and speak LTTng 2.13's protocol unless told otherwise.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import NamedTuple
from uuid import uuid4

from ustconsumer.protocol import relay, viewer
from ustconsumer.protocol.relay import AddStream, Command, CreateSession, Index

__all__ = ["Connection", "Packet", "Producer", "Viewer", "index_of", "packet_of"]

#: Seconds for anything: a relay that answers nothing hangs.
_PATIENCE = 60.0
_STATUS = struct.Struct(">I")
_TWO = struct.Struct(">QQ")


class Connection:
    """A socket to a port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Send everything."""
        self.socket.sendall(data)

    def exactly(self, size: int) -> bytes:
        """Return so many bytes.

        Raises
        ------
        EOFError
            The connection ended before.
        """
        found = bytearray()
        while len(found) < size:
            part = self.socket.recv(min(size - len(found), 1 << 18))
            if not part:
                raise EOFError(f"{len(found)} of {size} bytes")
            found += part
        return bytes(found)

    def rest(self) -> bytes:
        """Send no more; return what comes until the other end closes."""
        found = bytearray()
        with contextlib.suppress(ConnectionError):
            self.socket.shutdown(socket.SHUT_WR)
            while part := self.socket.recv(1 << 16):
                found += part
        return bytes(found)

    def close(self) -> None:
        self.socket.close()


class Packet(NamedTuple):
    """A packet on the data connection."""

    content: bytes
    padding: int = 0

    @property
    def stored(self) -> bytes:
        """What is in the file of it."""
        return self.content + bytes(self.padding)


def packet_of(number: int, size: int = 400, whole: int = 4096) -> Packet:
    """Return a packet with content that no other has; no reader takes it for CTF."""
    content = b"".join(struct.pack(">I", number * 65536 + n) for n in range(size // 4))
    return Packet(content, whole - len(content))


def index_of(handle: int, net: int, packet: Packet, sequence: int | None = None) -> Index:
    """Return what an index says of a packet."""
    begin = 1000 + 100 * net
    size = 8 * len(packet.stored)
    sequence = net if sequence is None else sequence
    return Index(handle, net, size, 8 * len(packet.content), begin, begin + 50, 0, 0, 0, sequence)


class Producer:
    """A session at a relay, as a consumer has it.

    Attributes
    ----------
    control, data : Connection
    session : int
        The relay's id of it.
    path : str
        Its directory, as the relay says.
    """

    def __init__(
        self,
        ports: tuple[int, int],
        *,
        name: str = "s",
        host: str = "producer",
        minor: int = 13,
        live_us: int = 0,
        snapshot: bool = False,
        chunk: bool = True,
        same: Producer | None = None,
    ) -> None:
        self.minor = minor
        self._ports = ports
        with contextlib.ExitStack() as closing:
            self.control = Connection(ports[0])
            closing.callback(self.control.close)
            version = relay.request(Command.VERSION, struct.pack(">II", 2, minor))
            assert self.call(version, 8)[:4] == b"\0\0\0\x02"
            self.wanted = CreateSession(
                name=name,
                host=host,
                live_us=live_us,
                snapshot=snapshot,
                uuid=uuid4().bytes,
                created=int(time.time()),
            )
            if same is not None:
                # Another connection of its session.
                self.wanted = same.wanted
            self.session, self.path = self.create(self.wanted)
            if chunk and minor >= 11:
                begin = relay.create_chunk(relay.CreateChunk(0, self.wanted.created))
                assert self.status(begin) == 10
            self.data = Connection(ports[1])
            closing.pop_all()

    def call(self, request: bytes, size: int) -> bytes:
        """Send a request; return its answer."""
        self.control.send(request)
        return self.control.exactly(size)

    def status(self, request: bytes) -> int:
        """Send a request; return the status that answers it."""
        (status,) = _STATUS.unpack(self.call(request, _STATUS.size))
        return int(status)

    def ask(self, command: int, *numbers: int) -> int:
        """Send a request of numbers of 64 bits; return the status."""
        return self.status(relay.request(command, struct.pack(f">{len(numbers)}Q", *numbers)))

    def create(self, wanted: CreateSession) -> tuple[int, str]:
        """Create a session; return the relay's id and directory of it."""
        raw = self.call(relay.create_session(self.minor, wanted), 12)
        number, status = struct.unpack(">QI", raw)
        assert status == 10, status
        if self.minor < 11:
            return number, ""
        (size,) = _STATUS.unpack(self.control.exactly(4))
        return number, self.control.exactly(size)[:-1].decode()

    def add(self, name: str, path: str = "ust/uid/7/64-bit", size: int = 0, count: int = 0) -> int:
        """Add a stream; return its handle."""
        stream = AddStream(name=name, path=path, tracefile_size=size, tracefile_count=count)
        handle, status = struct.unpack(">QI", self.call(relay.add_stream(self.minor, stream), 12))
        assert status == 10, status
        return int(handle)

    def publish(self) -> None:
        """Show the streams so far to viewers."""
        assert self.ask(Command.STREAMS_SENT) == 10

    def metadata(self, handle: int, packets: bytes, padding: int = 0) -> None:
        """Send metadata."""
        self.control.send(relay.send_metadata(handle, packets, padding))

    def send(self, handle: int, net: int, packet: Packet) -> None:
        """Send a packet."""
        head = relay.DATA_HEADER.pack(0, handle, net, len(packet.content), packet.padding)
        self.data.send(head + packet.content)

    def index(self, entry: Index) -> int:
        """Send an index; return the status."""
        return self.status(relay.index(self.minor, entry))

    def put(self, handle: int, net: int, packet: Packet) -> None:
        """Send a packet and its index."""
        self.send(handle, net, packet)
        assert self.index(index_of(handle, net, packet)) == 10

    def wait(self, handle: int, net: int) -> None:
        """Wait until everything up to a packet has arrived."""
        end = time.monotonic() + _PATIENCE
        while self.ask(Command.DATA_PENDING, handle, net):
            assert time.monotonic() < end
            time.sleep(0.005)

    def reconnect_data(self) -> None:
        """Open the data connection again."""
        self.data.close()
        self.data = Connection(self._ports[1])

    def close(self) -> None:
        """Go away."""
        self.control.close()
        self.data.close()


class Viewer:
    """A live viewer that is connected and has its viewer session."""

    def __init__(self, port: int) -> None:
        self.connection = Connection(port)
        self.call(viewer.Command.CONNECT, struct.pack(">QIII", (1 << 64) - 1, 2, 4, 1), 20)
        assert self.call(viewer.Command.CREATE_SESSION, b"", 4) == b"\0\0\0\x01"

    def call(self, command: int, payload: bytes, size: int) -> bytes:
        """Send a request; return so many bytes of its answer."""
        self.connection.send(viewer.request(command, payload))
        return self.connection.exactly(size)

    def sessions(self) -> dict[str, int]:
        """Return the ids of the sessions that there are by name."""
        (count,) = _STATUS.unpack(self.call(viewer.Command.LIST_SESSIONS, b"", 4))
        found = {}
        for _ in range(count):
            row = self.connection.exactly(339)
            found[row[84:].split(b"\0", 1)[0].decode()] = int.from_bytes(row[:8], "big")
        return found

    def attach(self, session: int, seek: int = 1) -> tuple[int, dict[str, int]]:
        """Follow a session; return the status and the handles of its streams by name."""
        payload = struct.pack(">QQI", session, 0, seek)
        return self._streams(self.call(viewer.Command.ATTACH_SESSION, payload, 8))

    def new_streams(self, session: int) -> tuple[int, dict[str, int]]:
        """Return the status and the streams that are new."""
        payload = session.to_bytes(8, "big")
        return self._streams(self.call(viewer.Command.GET_NEW_STREAMS, payload, 8))

    def next_index(self, stream: int) -> tuple[int, ...]:
        """Return the nine numbers of the next index, status before flags at their end."""
        raw = self.call(viewer.Command.GET_NEXT_INDEX, stream.to_bytes(8, "big"), 64)
        return struct.unpack(">7QII", raw)

    def packet(self, stream: int, offset: int, size: int) -> tuple[int, bytes]:
        """Return status and bytes of a packet."""
        payload = struct.pack(">QQI", stream, offset, size)
        status, size, _ = struct.unpack(">III", self.call(viewer.Command.GET_PACKET, payload, 12))
        return status, self.connection.exactly(size)

    def metadata(self, stream: int) -> tuple[int, bytes]:
        """Return status and the metadata that is new."""
        payload = stream.to_bytes(8, "big")
        size, status = struct.unpack(">QI", self.call(viewer.Command.GET_METADATA, payload, 12))
        return status, self.connection.exactly(size)

    def follow(self, stream: int, count: int) -> bytes:
        """Return the bytes of the next packets of a stream, as they come."""
        found = bytearray()
        end = time.monotonic() + _PATIENCE
        while count:
            *entry, status, _ = self.next_index(stream)
            if status == viewer.IndexStatus.OK:
                size = entry[1] // 8
                answer, raw = self.packet(stream, entry[0], size)
                assert (answer, len(raw)) == (1, size)
                found += raw
                count -= 1
                continue
            assert status in (viewer.IndexStatus.RETRY, viewer.IndexStatus.INACTIVE), status
            assert time.monotonic() < end, "nothing comes"
            time.sleep(0.01)
        return bytes(found)

    def close(self) -> None:
        """Go away."""
        self.connection.close()

    def _streams(self, head: bytes) -> tuple[int, dict[str, int]]:
        status, count = struct.unpack(">II", head)
        found = {}
        for _ in range(count):
            row = self.connection.exactly(4371)
            found[row[4116:].split(b"\0", 1)[0].decode()] = int.from_bytes(row[:8], "big")
        return status, found
