# SPDX-License-Identifier: MIT
"""A snapshot sent to a relay: taken to a directory first, so that buffers wait for no link."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ustconsumer.abi.packet import METADATA_PACKET
from ustconsumer.consumer.observer import Observer
from ustconsumer.consumer.relaylink import Identity, RelayLink
from ustconsumer.consumer.snapshot import Snapshot
from ustconsumer.ctf.datapackets import Files, headers
from ustconsumer.ctf.packets import PACKET_SIZE
from ustconsumer.errors import BrokenResourceError, CommandError, UstConsumerError
from ustconsumer.protocol.control import Attached, Destination, SnapshotPlace
from ustconsumer.protocol.destinations import relay_of
from ustconsumer.protocol.relay import METADATA, NO_SEQUENCE, CreateChunk
from ustconsumer.protocol.relayurl import RelayUrl
from ustconsumer.relay.wire import Credentials

__all__ = ["send_snapshot", "ship_snapshot"]

#: Seconds in which something must go on.
_PATIENCE = 10.0
#: Between two questions whether a stream has arrived; doubled up to the second.
_ASK, _MAX_ASK = 0.001, 0.1
#: From this version of the protocol on the relay makes the snapshot's directory.
_CHUNKS = 11
#: Metadata sent at a time: whole packets.
_TOGETHER = 256 * PACKET_SIZE


def send_snapshot(observer: Observer, place: SnapshotPlace) -> Snapshot:
    """Take a snapshot and send it to a relay; nothing of it is left here.

    Parameters
    ----------
    observer : Observer
        Of the session; its credentials for a relay are used.
    place : SnapshotPlace
        With a ``url``.

    Returns
    -------
    Snapshot
        ``path`` is that below the relay's directory, where the relay says it.

    Raises
    ------
    CommandError
        It could not be sent.
    UsageError, OSError
        It could not be taken.
    """
    with tempfile.TemporaryDirectory(prefix="ust-snapshot-") as scratch:
        snapshot = observer.snapshot(Path(scratch, "trace"), place.max_size)
        if not snapshot.path:
            return snapshot
        directory = Path(snapshot.path)
        attached = observer.attached
        relay = relay_of(Destination(url=place.url, data_url=place.data_url))
        sending = ship_snapshot(
            directory, relay, _credentials(attached), _identity(attached, place.name), place.name
        )
        try:
            # The caller's thread may have a loop of its own.
            with ThreadPoolExecutor(1) as pool:
                path = pool.submit(asyncio.run, sending).result()
        except (UstConsumerError, OSError) as error:
            raise CommandError(f"the snapshot was not sent: {error}") from None
    snapshot.path, snapshot.relay = path, str(relay)
    return snapshot


def _credentials(attached: Attached) -> Credentials:
    wanted = attached.destination
    return Credentials(
        token_file=wanted.token_file,
        ca_file=wanted.ca_file,
        cert_file=wanted.cert_file,
        key_file=wanted.key_file,
    )


def _identity(attached: Attached, name: str) -> Identity:
    # Another one than the session's, which may be sending to the same relay right now.
    return Identity(
        host=socket.gethostname(),
        name=attached.session,
        uuid=uuid.uuid5(uuid.UUID(attached.id), name).bytes,
        created=attached.created,
        snapshot=True,
    )


async def ship_snapshot(
    directory: Path, relay: RelayUrl, credentials: Credentials, identity: Identity, name: str
) -> str:
    """Send a snapshot's directory to a relay.

    Parameters
    ----------
    directory : Path
        As `ustconsumer.consumer.snapshot.take_snapshot` makes it.
    name : str
        Of the snapshot's directory below the session's at the relay.

    Returns
    -------
    str
        Where it is, below the relay's directory; only its name if an old relay does not say.

    Raises
    ------
    BrokenResourceError
        The connection is lost, or nothing went on for 10 s.
    RemoteProtocolError
        The relay refuses something.
    DecodeError, OSError
        The files cannot be read.
    """
    traces = _traces(directory)
    chunk = CreateChunk(0, int(time.time()), name)
    link = await RelayLink.open(relay, credentials, identity, chunk)
    try:
        for trace in traces:
            await _Shipment(link, trace, "" if link.minor >= _CHUNKS else f"{name}/").send()
        async with _patience(link):
            await link.close_chunk()
            await link.flush()
    finally:
        await link.abort()
    return link.path or name


class _Trace(NamedTuple):
    """A trace of a snapshot: its path, its metadata in packets, its files and their sizes."""

    path: str
    metadata: bytes
    files: list[tuple[Path, int]]

    @property
    def uuid(self) -> bytes:
        found: bytes = METADATA_PACKET.get(self.metadata, 0, "uuid")
        return found


def _traces(directory: Path) -> list[_Trace]:
    return [
        _Trace(
            metadata.parent.relative_to(directory).as_posix(),
            metadata.read_bytes(),
            [
                (file, file.stat().st_size)
                for file in sorted(metadata.parent.iterdir())
                if file.is_file() and file != metadata
            ],
        )
        for metadata in sorted(directory.rglob(METADATA))
    ]


class _Shipment:
    """A trace on its way: streams one after the other, then metadata, as LTTng sends them.

    Parameters
    ----------
    link : RelayLink
    trace : _Trace
    prefix : str
        Of its path.
    """

    def __init__(self, link: RelayLink, trace: _Trace, prefix: str) -> None:
        self._link = link
        self._trace = trace
        self._path = prefix + trace.path

    async def send(self) -> None:
        """Send it; returns when the relay has it."""
        for file, size in self._trace.files:
            await self._send_stream(file, size)
        link, metadata = self._link, self._trace.metadata
        handle = await self._add(METADATA)
        for at in range(0, len(metadata), _TOGETHER):
            async with _patience(link):
                link.send_metadata(handle, metadata[at : at + _TOGETHER])
                await link.drain()
        async with _patience(link):
            await link.close_stream(handle, NO_SEQUENCE)

    async def _send_stream(self, file: Path, size: int) -> None:
        link = self._link
        handle = await self._add(file.name)
        files, sent = Files(1), 0
        try:
            for packet in headers(files, str(file), size):
                async with _patience(link):
                    content = files.content(packet)
                    padding = packet.packet_size - packet.content_size
                    link.send_packet(handle, sent, content, padding)
                    sent += 1
                    await link.drain()
        finally:
            files.close()
        if sent:
            await self._arrived(handle, sent - 1)
        async with _patience(link):
            await link.close_stream(handle, sent - 1 if sent else NO_SEQUENCE)

    async def _add(self, name: str) -> int:
        async with _patience(self._link):
            return (await self._link.add_stream(name, self._path, self._trace.uuid)).handle

    async def _arrived(self, handle: int, last: int) -> None:
        """Wait until the relay has a stream up to a packet."""
        link, delay = self._link, _ASK
        async with _patience(link):
            await link.flush()
        # What is in the sockets' buffers is not much.
        async with _patience(link):
            while await link.pending(handle, last):
                await asyncio.sleep(delay)
                delay = min(2 * delay, _MAX_ASK)


@contextlib.asynccontextmanager
async def _patience(link: RelayLink) -> AsyncIterator[None]:
    """Bound what depends on the relay."""
    try:
        async with asyncio.timeout(_PATIENCE):
            yield
    except TimeoutError:
        raise BrokenResourceError(f"relay {link.url}: it takes nothing") from None
