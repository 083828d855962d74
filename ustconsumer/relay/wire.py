# SPDX-License-Identifier: MIT
"""Plain connections to a relay."""

from __future__ import annotations

import asyncio
import socket

import msgspec

from ustconsumer.errors import BrokenResourceError

__all__ = ["Credentials", "Wire", "dial"]


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
        return await self._reader.readexactly(n)

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
    timeout: float,
) -> Wire:
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(host, port, family=socket.AF_INET6 if ipv6 else socket.AF_INET),
            timeout,
        )
    except (OSError, TimeoutError) as error:
        raise BrokenResourceError(f"relay {host}:{port}: {error}") from None
    return Wire(reader, writer)
