# SPDX-License-Identifier: MIT
"""Bytes between a producer and a relay, as they are or compressed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from typing import Protocol

import msgspec
import zstandard

from ustconsumer.errors import BrokenResourceError, RemoteProtocolError

__all__ = ["TOKEN_MAGIC", "ZSTD_MAGIC", "Credentials", "Wire", "explain", "prepare"]

#: What a connection begins with that says a secret first: its length (u16) and it follow.
TOKEN_MAGIC = b"UST\x01"
#: What a compressed one begins with.
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

#: Level for a link: faster than most.
_LEVEL = 1
#: Bytes of input that are unpacked at once: a few can say "gigabytes of zeros", but four of them
#: (the smallest block) at most 128 KiB, so these 8 MiB. What follows waits until they are read.
_PIECE = 256
#: A frame that wants more memory than this is refused: `_LEVEL` asks for 512 KiB.
_MAX_WINDOW = 2 << 20
_READ = 1 << 16
#: Seconds without a word after which a peer is asked for one, between questions, and questions.
_KEEP_IDLE = 60
_KEEP_INTERVAL = 15
_KEEP_COUNT = 4


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a producer shows, and whom it trusts; files."""

    #: a secret shared with the relay
    token_file: str = ""
    #: who signs the relay's certificate; empty: whom the system trusts
    ca_file: str = ""
    cert_file: str = ""
    #: empty: in ``cert_file``
    key_file: str = ""


class _Unpacker:
    """Unpacks a zstd stream, a bounded piece at a time; all that a piece says comes at once."""

    def __init__(self) -> None:
        context = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        self._stream = context.decompressobj()

    def unpack(self, piece: bytes) -> bytes:
        """Return what a piece of at most `_PIECE` bytes becomes."""
        try:
            unpacked = self._stream.decompress(piece)
        except zstandard.ZstdError as error:
            raise RemoteProtocolError(f"a compressed stream that makes no sense: {error}") from None
        if self._stream.unused_data:
            raise RemoteProtocolError("a compressed stream goes on behind its end")
        return unpacked


class _Compressor(Protocol):
    def compress(self, data: bytes | memoryview) -> bytes: ...

    def flush(self, flush_mode: int = ...) -> bytes: ...


class Wire:
    """A connection.

    Parameters
    ----------
    reader, writer : asyncio streams
    peer : str
        For messages: ``relay 10.0.0.1:5342``.
    begun : bytes
        Read before, to be read again.
    compress : bool
        Compress what is written.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: str,
        *,
        begun: bytes = b"",
        compress: bool = False,
    ) -> None:
        self.peer = peer
        self._reader = reader
        self._writer = writer
        self._held = bytearray(begun)
        self._unpacker: _Unpacker | None = None
        self._packed = b""
        #: written and not pushed: a system call for all of it together
        self._outgoing: list[bytes | memoryview] = []
        self._outgoing_size = 0
        self._packer: _Compressor | None = None
        if compress:
            self._packer = zstandard.ZstdCompressor(level=_LEVEL).compressobj()

    @property
    def pending(self) -> int:
        """Bytes that wait for the socket, or to be pushed."""
        return self._outgoing_size + self._writer.transport.get_write_buffer_size()

    def unpack(self) -> None:
        """Read a compressed stream from here on."""
        self._packed, self._held = bytes(self._held), bytearray()
        self._unpacker = _Unpacker()

    def write(self, data: bytes | memoryview) -> None:
        """Take bytes to be sent; `push` or `drain` make them go.

        Raises
        ------
        BrokenResourceError
            The connection is lost.
        """
        if self._writer.is_closing():
            raise BrokenResourceError(f"{self.peer}: the connection is lost")
        if self._packer is not None:
            data = self._packer.compress(data)
        self._take(data)

    def push(self) -> None:
        """Hand everything written to the socket: nothing waits here, or in a compressor.

        Raises
        ------
        BrokenResourceError
            The connection is lost.
        """
        if self._packer is not None:
            self._take(self._packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
        outgoing, self._outgoing, self._outgoing_size = self._outgoing, [], 0
        if not outgoing:
            return
        # What the loop says of a connection that ended while we did something else is its own.
        if self._writer.is_closing():
            raise BrokenResourceError(f"{self.peer}: the connection is lost")
        try:
            self._writer.writelines(outgoing)
        except RuntimeError:
            raise BrokenResourceError(f"{self.peer}: the connection is lost") from None

    async def drain(self) -> None:
        """Send what was written, and wait until there is room for more.

        Raises
        ------
        BrokenResourceError
            The connection is lost.
        """
        self.push()
        try:
            await self._writer.drain()
        except OSError as error:
            raise BrokenResourceError(f"{self.peer}: {explain(error)}") from None

    async def read(self, size: int) -> bytes:
        """Return some bytes, at most ``size``; none at the end.

        Raises
        ------
        BrokenResourceError
            The connection is lost.
        RemoteProtocolError
            What was compressed makes no sense.
        """
        while not self._held:
            if self._unpacker is None:
                return await self._receive(size)
            if not self._packed:
                self._packed = await self._receive(_READ)
                if not self._packed:
                    return b""
            piece, self._packed = self._packed[:_PIECE], self._packed[_PIECE:]
            self._held += self._unpacker.unpack(piece)
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    async def readexactly(self, size: int) -> bytes:
        """Return so many bytes.

        Raises
        ------
        EOFError
            The connection ended before.
        """
        if not self._held and self._unpacker is None:
            try:
                return await self._reader.readexactly(size)
            except OSError as error:
                raise BrokenResourceError(f"{self.peer}: {explain(error)}") from None
        parts, left = [], size
        while left:
            part = await self.read(left)
            if not part:
                raise EOFError(f"{self.peer}: the connection ended")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def acknowledge(self) -> None:
        """Tell the peer at once what has come, for once: it may wait for that with the rest."""
        connection = self._writer.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def close(self) -> None:
        """Close the connection; what waits is sent still, if the peer takes it."""
        if not self._writer.is_closing():
            if self._outgoing:
                with contextlib.suppress(BrokenResourceError):
                    self.push()
            self._writer.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()

    async def wait_closed(self) -> None:
        """Wait until it is closed."""
        try:
            await self._writer.wait_closed()
        except OSError as error:
            raise BrokenResourceError(f"{self.peer}: {explain(error)}") from None

    def _take(self, data: bytes | memoryview) -> None:
        if data:
            self._outgoing.append(data)
            self._outgoing_size += len(data)

    async def _receive(self, size: int) -> bytes:
        try:
            return await self._reader.read(size)
        except OSError as error:
            raise BrokenResourceError(f"{self.peer}: {explain(error)}") from None


def prepare(connection: socket.socket) -> None:
    """Have small messages go at once, and a peer that is gone without a word noticed."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_IDLE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEP_INTERVAL)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEP_COUNT)


def explain(error: OSError) -> str:
    """Return what is wrong with a connection, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message.rstrip('.')})"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection ({error.reason or error})"
    if isinstance(error, socket.gaierror):
        return f"no such host ({error.strerror})"
    # The loop's own text says what it called, not what is wrong.
    return os.strerror(error.errno).lower() if error.errno else str(error) or type(error).__name__
