# SPDX-License-Identifier: MIT
"""One connection to a relay, as a producer: two sockets, one session, its streams."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import struct
import time
from typing import NamedTuple

from ustconsumer.consumer.relaydialog import RelayDialog
from ustconsumer.errors import BrokenResourceError, RemoteProtocolError
from ustconsumer.protocol import relay
from ustconsumer.protocol.relay import (
    AddStream,
    CloseCommand,
    Command,
    CreateChunk,
    Index,
    Status,
)
from ustconsumer.protocol.relayurl import RelayUrl
from ustconsumer.relay.dial import dial
from ustconsumer.relay.wire import Credentials, Wire

__all__ = ["Identity", "RelayLink"]

#: Seconds for each step of making a connection, and for an answer that nothing delays.
_PATIENCE = 10.0
#: LTTng's receivers refuse a session without a name, which older protocols do not have.
_OLDEST = 4
_CHUNKS = 11
_CONFIGURATION = 12
#: Bytes that may wait for the socket: more would only be older when they arrive.
_PENDING = 256 << 10
#: Instead of no limit, for LTTng's relay: a megabyte of its memory for each stream.
_MANY_FILES = 1 << 16

_STATUS = struct.Struct(">I")
_VERSION = struct.Struct(">II")
_SETTINGS = struct.Struct(">IQ")
_CREATED = struct.Struct(">QI")
_CREATED_PATH = struct.Struct(">QII")
_TWO = struct.Struct(">QQ")
_CLOSED = struct.Struct(">II")
_ONE = struct.Struct(">Q")
_EXISTS = struct.Struct(">I?")


class Identity(NamedTuple):
    """What a session is called where it goes.

    Attributes
    ----------
    uuid : bytes, length 16
    created : int
        Seconds since the epoch.
    again : int
        How often there was a connection of this session before. A relay that cannot go on
        with a trace gets another name for another one: nothing is written over.
    """

    host: str
    name: str
    uuid: bytes
    created: int
    live_us: int = 0
    snapshot: bool = False
    again: int = 0

    @property
    def has_time(self) -> bool:
        """Whether the name has the time in it, as automatic ones do."""
        return self.name.startswith("auto-")


class RelayLink:
    """A session at a relay; `open` makes one.

    Requests are sent without waiting for the answer of the one before: each returns what
    can be awaited. Not thread-safe.

    Attributes
    ----------
    minor : int
        Version of the protocol that both ends speak.
    resumable : bool
        The relay is one of ours: it knows what it has.
    path : str
        Directory of the session below the relay's, where it is said.
    created : int
        When the session was created, as the relay was told.
    chunk : CreateChunk or None
        The trace chunk that is written; none with relays before LTTng 2.11.
    clears : bool
        The relay deletes chunks.
    """

    def __init__(self, url: RelayUrl, control: Wire) -> None:
        self.url = url
        self.minor = 0
        self.resumable = False
        self.path = ""
        self.created = 0
        self._control = control
        self._dialog = RelayDialog(url, control)
        self._data: Wire | None = None
        self._directory = ""
        self.chunk: CreateChunk | None = None
        self.clears = False

    @classmethod
    async def open(
        cls,
        url: RelayUrl,
        credentials: Credentials,
        identity: Identity,
        chunk: CreateChunk | None = None,
        following: CreateChunk | None = None,
    ) -> RelayLink:
        """Connect, agree on a version, create or find the session.

        Parameters
        ----------
        chunk : CreateChunk, optional
            To be written; one with a name is a sub-directory of the session, of a snapshot.
            Default: the first.
        following : CreateChunk, optional
            The one that follows: it is written if an earlier connection had it begun, or could
            not leave anything in the one before.

        Raises
        ------
        BrokenResourceError
            No connection, or it went away.
        RemoteProtocolError
            It is no relay, too old, or refuses the session.
        """

        async def connect(host: str, port: int) -> Wire:
            return await dial(
                host,
                port,
                ipv6=url.ipv6,
                tls=url.tls,
                zstd=url.zstd,
                credentials=credentials,
                patience=_PATIENCE,
            )

        link = cls(url, await connect(url.host, url.control_port))
        try:
            try:
                await asyncio.wait_for(link._begin(identity), _PATIENCE)
            except BrokenResourceError as error:
                if link.minor:
                    raise
                raise BrokenResourceError(
                    f"{error}: perhaps it wants TLS, a token or a certificate"
                ) from None
            link._data = await connect(url.data_host or url.host, url.data_port)
            if link.minor >= _CHUNKS:
                first = CreateChunk(0, int(time.time()))
                await asyncio.wait_for(link._begin_chunk(chunk or first, following), _PATIENCE)
        except TimeoutError:
            await link.abort()
            raise BrokenResourceError(
                f"relay {url}: it did not answer in {_PATIENCE:.0f} s"
            ) from None
        except BaseException:
            await link.abort()
            raise
        return link

    @property
    def failed(self) -> asyncio.Future[None]:
        """Done, with an exception, when the connection is of no use any more."""
        return self._dialog.failed

    async def add_stream(
        self, name: str, path: str, uuid: bytes, size: int = 0, count: int = 0
    ) -> relay.StreamAdded:
        """Add a stream of a trace; the relay makes its file, or files of so many bytes each."""
        if size and not count and not self.resumable:
            # LTTng's divides by it, and makes room for so many.
            count = _MANY_FILES
        stream = AddStream(
            name=name,
            path=path if self.minor >= _CHUNKS else f"{self._directory}/{path}",
            chunk=0 if self.chunk is None else self.chunk.id,
            uuid=uuid if self.resumable else b"",
            tracefile_size=size,
            tracefile_count=count,
        )
        answer_size = 36 if self.resumable else 12
        raw = await self._dialog.call(relay.add_stream(self.minor, stream), answer_size)
        added = relay.decode_stream_added(raw, self.resumable)
        if added.status != Status.OK:
            raise RemoteProtocolError(
                f"relay {self.url}: it refuses stream {path}/{name} (status {added.status})"
            )
        return added

    async def publish(self) -> None:
        """Let viewers see the streams that were added."""
        await self._dialog.checked(relay.request(Command.STREAMS_SENT), "the streams")

    def send_metadata(self, handle: int, packets: bytes) -> None:
        """Send metadata packets; there is no answer."""
        self._control.write(relay.send_metadata(handle, packets))

    async def reset_metadata(self, handle: int, version: int) -> None:
        """Have the relay forget the metadata packets of a trace: all of them come again."""
        payload = _TWO.pack(handle, version)
        await self._dialog.checked(relay.request(Command.RESET_METADATA, payload), "metadata anew")

    def send_packet(self, handle: int, net: int, content: bytes, padding: int) -> None:
        """Send a packet."""
        assert self._data is not None
        self._data.write(relay.DATA_HEADER.pack(0, handle, net, len(content), padding))
        self._data.write(content)

    def send_index(self, entry: Index) -> None:
        """Send what an index file says of a packet, or a beacon; one refused is the end."""
        self._dialog.send(
            relay.index(self.minor, entry),
            lambda head: _STATUS.size,
            functools.partial(self._dialog.check, "an index"),
        )

    async def pending(self, handle: int, net: int) -> bool:
        """Return whether something up to this packet has not arrived."""
        request = relay.request(Command.DATA_PENDING, _TWO.pack(handle, net))
        (answer,) = _STATUS.unpack(await self._dialog.call(request, _STATUS.size))
        if answer not in (0, 1):
            raise RemoteProtocolError(f"relay {self.url}: it does not know a stream of its own")
        return bool(answer)

    async def close_stream(self, handle: int, last: int) -> None:
        """Close a stream behind its last packet."""
        payload = _TWO.pack(handle, last)
        await self._dialog.checked(
            relay.request(Command.CLOSE_STREAM, payload), "the end of a stream"
        )

    async def change_chunk(
        self, following: CreateChunk, closed: int, command: CloseCommand
    ) -> None:
        """Begin another chunk and close the one before, of which no stream is open."""
        old = self.chunk
        assert old is not None
        await self._dialog.checked(relay.create_chunk(following), "a trace chunk")
        await self._close_chunk(relay.CloseChunk(old.id, closed, command))
        # Not before: another connection would never close the old one.
        self.chunk = following

    def archive_of(self, chunk: CreateChunk, closed: int) -> str:
        """Return where a chunk is when it is complete, as relays name it in our time zone."""
        return f"{self.path}/archives/{_stamp(chunk.created)}-{_stamp(closed)}-{chunk.id}"

    async def close_chunk(self, closed: int = 0, command: CloseCommand | None = None) -> None:
        """Close the trace chunk, by default where it is, for good."""
        chunk, self.chunk = self.chunk, None
        if chunk is not None:
            wanted = relay.CloseChunk(chunk.id, closed or int(time.time()), command)
            path = await self._close_chunk(wanted)
            if command is None:
                self.path = path or self.path

    async def _close_chunk(self, chunk: relay.CloseChunk) -> str:
        """Return where the relay says that it is."""
        raw = await self._dialog.call(relay.close_chunk(chunk), self._dialog.with_path(_CLOSED))
        status, _ = _CLOSED.unpack_from(raw)
        if status != Status.OK:
            return ""
        return raw[_CLOSED.size :].rstrip(b"\0").decode(errors="replace")

    async def _begin_chunk(self, chunk: CreateChunk, following: CreateChunk | None) -> None:
        if following is not None and (
            not self.resumable
            or (await self._has_chunk(following) and not await self._has_chunk(chunk))
        ):
            chunk = following
        await self._dialog.checked(relay.create_chunk(chunk), "a trace chunk")
        self.chunk = chunk

    async def _has_chunk(self, chunk: CreateChunk) -> bool:
        request = relay.request(Command.TRACE_CHUNK_EXISTS, _ONE.pack(chunk.id))
        _, exists = _EXISTS.unpack(await self._dialog.call(request, _EXISTS.size))
        return bool(exists)

    @property
    def is_full(self) -> bool:
        """Whether more packets would only be older when they arrive: `drain` first."""
        return self._data is not None and self._data.pending > _PENDING

    async def drain(self) -> None:
        """Hand everything written to the sockets, and wait until they take more."""
        if self._data is not None:
            self._data.push()
            if self.is_full:
                await self._data.drain()
        await self._control.drain()

    async def flush(self) -> None:
        """Wait until everything written is on its way."""
        await self._control.drain()
        if self._data is not None:
            await self._data.drain()

    async def abort(self) -> None:
        """Close both sockets, whatever is under way."""
        for wire in (self._data, self._control):
            if wire is not None:
                wire.close()
        await self._dialog.end()
        for wire in (self._data, self._control):
            if wire is not None:
                # It is closed: whatever it says about that.
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(wire.wait_closed(), _PATIENCE)

    async def _begin(self, identity: Identity) -> None:
        raw = await self._dialog.call(
            relay.request(Command.VERSION, _VERSION.pack(relay.MAJOR, relay.MINOR)), _VERSION.size
        )
        major, minor = _VERSION.unpack(raw)
        self.minor = min(minor, relay.MINOR)
        if major != relay.MAJOR or self.minor < _OLDEST:
            raise RemoteProtocolError(
                f"relay {self.url}: it speaks version {major}.{minor}, we from "
                f"{relay.MAJOR}.{_OLDEST} to {relay.MAJOR}.{relay.MINOR}"
            )
        if self.minor >= _CONFIGURATION:
            await self._configure()
        await self._create(identity)

    async def _configure(self) -> None:
        request = relay.request(Command.GET_CONFIGURATION, bytes(8))
        status, flags = _SETTINGS.unpack(await self._dialog.call(request, _SETTINGS.size))
        self.clears = status == Status.OK and bool(flags & relay.CLEAR_ALLOWED)
        if status == Status.OK and flags & relay.RESUMABLE:
            await self._dialog.checked(relay.request(Command.RESUME), "to go on with a session")
            self.resumable = self._dialog.patient = True

    async def _create(self, identity: Identity) -> None:
        url = self.url
        created, base, uuid = identity.created, url.path, identity.uuid
        name, has_time = identity.name, identity.has_time
        if identity.again and not self.resumable:
            # It would write over what it has of us: a time that no connection had before.
            created = max(int(time.time()), created + 1)
            stamp = time.strftime("-%Y%m%d-%H%M%S", time.localtime(created))
            base = base and base + stamp
            has_time = False
            uuid = bytes([uuid[0] ^ identity.again & 0xFF, *uuid[1:]])
        date = time.strftime("-%Y%m%d-%H%M%S", time.localtime(created))
        self._directory = f"{identity.host}/{base or name + ('' if has_time else date)}"
        self.created = created
        session = relay.CreateSession(
            name=name,
            host=identity.host,
            base_path=base,
            live_us=identity.live_us,
            snapshot=identity.snapshot,
            name_has_time=has_time,
            uuid=uuid,
            created=created,
        )
        request = relay.create_session(self.minor, session)
        if self.minor >= _CHUNKS:
            raw = await self._dialog.call(request, self._dialog.with_path(_CREATED_PATH))
            _, status, _ = _CREATED_PATH.unpack_from(raw)
            self.path = raw[_CREATED_PATH.size :].rstrip(b"\0").decode(errors="replace")
        else:
            _, status = _CREATED.unpack(await self._dialog.call(request, _CREATED.size))
        if status != Status.OK:
            raise RemoteProtocolError(f"relay {url}: it refuses session {name} (status {status})")


def _stamp(seconds: int) -> str:
    return time.strftime("%Y%m%dT%H%M%S%z", time.localtime(seconds))
