# SPDX-License-Identifier: MIT
"""Plain connections to a relay."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import msgspec

from ustconsumer.errors import BrokenResourceError

__all__ = ["Credentials", "Server", "Wire", "dial", "serve"]


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    token_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class Wire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @property
    def pending(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    def write(self, data: bytes | memoryview) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        try:
            await self._writer.drain()
        except OSError as error:
            raise BrokenResourceError(str(error)) from None

    async def read(self, n: int) -> bytes:
        try:
            return await self._reader.read(n)
        except OSError as error:
            raise BrokenResourceError(str(error)) from None

    async def readexactly(self, n: int) -> bytes:
        try:
            return await self._reader.readexactly(n)
        except OSError as error:
            raise BrokenResourceError(str(error)) from None

    def close(self) -> None:
        self._writer.close()

    async def wait_closed(self) -> None:
        await self._writer.wait_closed()


async def dial(
    host: str,
    port: int,
    *,
    ipv6: bool = False,
    tls: bool = False,
    zstd: bool = False,
    credentials: Credentials,
    timeout: float,  # noqa: ASYNC109
) -> Wire:
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(host, port, family=socket.AF_INET6 if ipv6 else socket.AF_INET),
            timeout,
        )
    except (OSError, TimeoutError) as error:
        raise BrokenResourceError(f"relay {host}:{port}: {error}") from None
    return Wire(reader, writer)


class Server:
    """A listener."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]

    def close(self) -> None:
        self._server.close()


async def serve(host: str, port: int, handler: Callable[[Wire], Awaitable[None]]) -> Server:
    """Have a handler called for each connection."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handler(Wire(reader, writer))

    return Server(await asyncio.start_server(serve_one, host, port))
