# SPDX-License-Identifier: MIT
"""A relay's side of connections: what they are is told by their first bytes."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ustconsumer.errors import ConnectionClosedError, RemoteProtocolError
from ustconsumer.relay.wire import TOKEN_MAGIC, ZSTD_MAGIC, Wire, explain, prepare

__all__ = ["Policy", "Server", "serve"]

_log = logging.getLogger("ust-relayd")

_TLS_HANDSHAKE = b"\x16"
_LENGTH = struct.Struct(">H")
_BACKLOG = 128


@dataclass(frozen=True)
class Policy:
    """Who may connect.

    Attributes
    ----------
    tls : ssl.SSLContext or None
        Connections without TLS are refused; None: those with it.
    token : bytes
        What a connection has to say first; empty: nothing.
    patience : float
        Seconds in which it has to show what it is.
    most : int
        Connections at a time.
    most_new : int
        Connections of one address that have not shown what they are.
    silent : bool
        Who has shown TLS and token, as far as asked for, may say nothing as long as it likes:
        the data connection of a producer that has no packet yet.
    """

    tls: ssl.SSLContext | None = None
    token: bytes = b""
    patience: float = 10.0
    most: int = 1024
    most_new: int = 64
    silent: bool = False


class Server:
    """A listening socket and the connections that came of it; `serve` makes one."""

    def __init__(
        self, listener: socket.socket, handler: Callable[[Wire], Awaitable[None]], policy: Policy
    ) -> None:
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._handler = handler
        self._policy = policy
        self._new: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.ensure_future(self._accept())

    def close(self) -> None:
        """Take no more connections, and end those there are."""
        self._accepting.cancel()
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until every connection has ended."""
        await asyncio.gather(self._accepting, *self._tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listener)
            except OSError as error:
                # Descriptors are short: others will be given back.
                _log.warning("a connection was not accepted: %s", explain(error))
                await asyncio.sleep(0.1)
                continue
            host = str(address[0])
            policy = self._policy
            if len(self._tasks) >= policy.most or self._new[host] >= policy.most_new:
                _log.warning("connection of %s refused: there are too many", host)
                connection.close()
                continue
            task = asyncio.ensure_future(self._serve(connection, host))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket, host: str) -> None:
        self._new[host] += 1
        wire: Wire | None = None
        try:
            wire = await self._recognise(connection, host)
        except TimeoutError:
            _log.warning("%s: did not say what it is in %.0f s", host, self._policy.patience)
        except RemoteProtocolError as error:
            _log.warning("%s: refused: %s", host, error)
        except OSError as error:
            _log.warning("%s: refused: %s", host, explain(error))
        except (ConnectionClosedError, EOFError):
            pass
        finally:
            self._new[host] -= 1
            if not self._new[host]:
                del self._new[host]
            if wire is None:
                connection.close()
        if wire is not None:
            try:
                await self._handler(wire)
            finally:
                wire.close()

    async def _recognise(self, connection: socket.socket, host: str) -> Wire:
        """Return the connection when it has shown what it is and who.

        Raises
        ------
        RemoteProtocolError
            It is not what is asked for.
        TimeoutError
            It takes too long.
        """
        policy = self._policy
        asked = policy.tls is not None or bool(policy.token)
        bound = policy.patience if asked or not policy.silent else None
        async with asyncio.timeout(bound) as limit:
            return await self._show(connection, host, limit)

    async def _show(self, connection: socket.socket, host: str, limit: asyncio.Timeout) -> Wire:
        policy = self._policy
        connection.setblocking(False)
        prepare(connection)
        is_tls = await _peek(connection) == _TLS_HANDSHAKE
        if is_tls != (policy.tls is not None):
            raise RemoteProtocolError(
                "TLS, which this relay has no certificate for" if is_tls else "not TLS"
            )
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=1 << 18)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=policy.tls,
            ssl_handshake_timeout=policy.patience if policy.tls is not None else None,
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            if policy.silent and not policy.token:
                limit.reschedule(None)
            head, token = await reader.readexactly(len(TOKEN_MAGIC)), b""
            if head == TOKEN_MAGIC:
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                token = await reader.readexactly(length)
            if policy.token and not hmac.compare_digest(token, policy.token):
                raise RemoteProtocolError("another token" if token else "no token")
            if head == TOKEN_MAGIC:
                if policy.silent:
                    limit.reschedule(None)
                head = await reader.readexactly(len(ZSTD_MAGIC))
        except BaseException:
            transport.abort()
            raise
        wire = Wire(reader, writer, host, begun=head)
        if head == ZSTD_MAGIC:
            wire.unpack()
        return wire


async def serve(
    host: str, port: int, handler: Callable[[Wire], Awaitable[None]], policy: Policy | None = None
) -> Server:
    """Have a handler called for each connection that shows what it has to.

    Parameters
    ----------
    host : str
        Address to listen on.
    port : int
        0: any that is free, see `Server.port`.

    Raises
    ------
    OSError
        There is somebody, or no such address.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, number, _, address = found[0]
    listener = socket.socket(family, kind, number)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return Server(listener, handler, policy or Policy())


async def _peek(connection: socket.socket) -> bytes:
    """Return the first byte that comes, and leave it where it is."""
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(BlockingIOError):
            return connection.recv(1, socket.MSG_PEEK)
        readable = loop.create_future()
        loop.add_reader(connection.fileno(), _set, readable)
        try:
            await readable
        finally:
            loop.remove_reader(connection.fileno())


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
