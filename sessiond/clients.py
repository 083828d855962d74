# SPDX-License-Identifier: MIT
"""Connections of control clients: hello first, then requests, one after the other."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import ustconsumer
from sessiond.recording import Recording
from sessiond.sockets import Listener, Wire, close_all, peer_of, pidfd_of
from sessiond.subscription import Subscription
from ustconsumer.errors import (
    CommandError,
    ProtocolError,
    RemoteProtocolError,
    UsageError,
    UstConsumerError,
)
from ustconsumer.protocol.control import (
    VERSION,
    Drained,
    Failed,
    FrameDecoder,
    Hello,
    HoleFound,
    Message,
    Release,
    StreamReady,
    TraceClosed,
    Welcome,
    encode,
)

__all__ = ["Client", "Clients", "Handler"]

_log = logging.getLogger("sessiond")

_HELLO_SECONDS = 10.0
#: Bytes a client may leave unread, and requests it may send ahead.
_MAX_QUEUE = 64 << 20
_MAX_AHEAD = 64
_MAX_CLIENTS = 512

#: A consumer's message that has no reply.
_Notice: TypeAlias = StreamReady | Drained | Release | TraceClosed | HoleFound

#: Carries out a request; returns the reply, or None if it has sent one itself.
Handler = Callable[["Client", Message], Awaitable[Message | None]]


class Client:
    """One connection.

    Attributes
    ----------
    peer : Peer
    subscription : Subscription or None
        What it is attached to, with ``recording``.
    """

    def __init__(self, server: Clients, loop: asyncio.AbstractEventLoop, sock: socket.socket):
        self.peer = peer_of(sock)
        self.subscription: Subscription | None = None
        self.recording: Recording | None = None
        self._server = server
        self._loop = loop
        self._socket = sock
        self._decoder = FrameDecoder()
        self._welcome = False
        self._requests: deque[Message] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._pidfd = -1
        self._hello_timer = loop.call_later(_HELLO_SECONDS, self._end, "sent no hello")
        self._wire = Wire(loop, sock, self._received, self._end, _MAX_QUEUE)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message; its descriptors stay the caller's."""
        self._wire.send(encode(message, len(fds)), fds)

    @property
    def welcome(self) -> bool:
        """Whether it has said hello."""
        return self._welcome

    @property
    def closed(self) -> bool:
        """Whether it has hung up."""
        return self._wire.closed

    @property
    def unread(self) -> int:
        """Bytes that wait until it reads."""
        return self._wire.queued

    def attach(self, recording: Recording, subscription: Subscription) -> None:
        """Note what it is attached to, until it hangs up or dies."""
        self.recording, self.subscription = recording, subscription
        # By its process, too: a forked child may keep the connection open.
        self._pidfd = pidfd_of(self._socket, self.peer.pid)
        self._loop.add_reader(self._pidfd, self._end, "")

    def detach(self) -> None:
        """End its subscription, if it has one."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            close_all([self._pidfd])
            self._pidfd = -1
        if self.recording is not None and self.subscription is not None:
            self.recording.detach(self.subscription)
        self.recording = self.subscription = None

    def close(self) -> None:
        """Hang up; a request that is being carried out goes on to its end.

        A verb cut in half would leave half a session: destroyed, its name taken.
        """
        self._hello_timer.cancel()
        self._requests.clear()
        self._wire.close()
        self.detach()
        close_all(self._decoder.close())
        self._server.forget(self)

    def _end(self, reason: str) -> None:
        if reason:
            _log.warning("control client of pid %d closed: %s", self.peer.pid, reason)
        self.close()

    def _received(self, chunk: bytes) -> None:
        for message, _ in self._decoder.feed(chunk, []):
            if not self._welcome:
                self._hello(message)
            elif isinstance(message, _Notice):
                self._notice(message)
            elif len(self._requests) >= _MAX_AHEAD:
                raise RemoteProtocolError(f"{_MAX_AHEAD} requests ahead of their replies")
            else:
                self._requests.append(message)
                if self._worker is None:
                    self._worker = self._loop.create_task(self._work())

    def _hello(self, message: Message) -> None:
        if not isinstance(message, Hello):
            raise RemoteProtocolError(f"{type(message).__name__} before the hello")
        self._hello_timer.cancel()
        refusal = self._server.refusal(self, message)
        if refusal is not None:
            refusal.seq = message.seq
            self.send(refusal)
            raise RemoteProtocolError(refusal.message)
        self._welcome = True
        self.send(
            Welcome(
                seq=message.seq,
                version=VERSION,
                release=ustconsumer.__version__,
                pid=os.getpid(),
                uid=os.geteuid(),
                rundir=self._server.rundir,
            )
        )

    def _notice(self, message: _Notice) -> None:
        """Take a consumer's message that has no reply."""
        if self.subscription is None or self.recording is None:
            return  # the session has ended meanwhile
        if isinstance(message, StreamReady):
            self.subscription.ready(message)
        elif isinstance(message, Drained):
            self.subscription.drained(message)
        elif isinstance(message, TraceClosed):
            self.recording.trace_closed(self.subscription, message)
        elif isinstance(message, HoleFound):
            self._server.hole_found(self.recording, self.subscription, message)
        else:
            self.detach()

    async def _work(self) -> None:
        while self._requests:
            request = self._requests.popleft()
            reply = await self._server.handle(self, request)
            if reply is not None:
                self._reply(request, reply)
        self._worker = None

    def _reply(self, request: Message, reply: Message) -> None:
        reply.seq = request.seq
        try:
            self.send(reply)
        except (OverflowError, ValueError, UstConsumerError) as error:
            # It would wait for ever.
            _log.error("%s cannot be answered: %s", type(request).__name__, error)
            self.send(Failed(seq=request.seq, message=f"the answer cannot be sent: {error}"))


class Clients:
    """Accepts control clients and has their requests carried out.

    Parameters
    ----------
    listener : socket.socket
        Non-blocking and listening.
    handlers : dict
        By type of request.
    may_control : callable
        Whether a uid may speak to us at all.
    hole_found : callable
        Judges a hole that a consumer found; answers through its subscription.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        rundir: str,
        handlers: dict[type[Message], Handler],
        may_control: Callable[[int], bool],
        hole_found: Callable[[Recording, Subscription, HoleFound], None],
    ) -> None:
        self.hole_found = hole_found
        self.rundir = rundir
        self._loop = loop
        self._handlers = handlers
        self._may_control = may_control
        # In order of arrival.
        self._clients: dict[Client, None] = {}
        self._listener = Listener(loop, listener, "control clients", self._connected)

    def refusal(self, client: Client, hello: Hello) -> Failed | None:
        """Return why a client is not welcome, None if it is."""
        if not self._may_control(client.peer.uid):
            message = f"uid {client.peer.uid} may not control this registry"
            return Failed(message=message, kind="permission")
        if hello.version != VERSION:
            message = (
                f"registry {ustconsumer.__version__} (pid {os.getpid()}) speaks control protocol "
                f"{VERSION}, the client {hello.version}: restart the registry"
            )
            return Failed(message=message, kind="version")
        return None

    async def handle(self, client: Client, request: Message) -> Message | None:
        """Carry out a request; whatever goes wrong becomes a reply."""
        handler = self._handlers.get(type(request))
        if handler is None:
            return Failed(message=f"{type(request).__name__} is no request", kind="invalid")
        try:
            return await handler(client, request)
        except CommandError as error:
            return Failed(message=str(error), kind=error.kind)
        except UsageError as error:
            return Failed(message=str(error), kind="invalid")
        except (UstConsumerError, OSError) as error:
            if not isinstance(error, ProtocolError):
                _log.error("%s failed: %s", type(request).__name__, error)
            return Failed(message=str(error))
        except Exception as error:
            _log.exception("%s failed", type(request).__name__)
            return Failed(message=f"registry error: {error!r}")

    def forget(self, client: Client) -> None:
        self._clients.pop(client, None)

    def stop_listening(self) -> None:
        self._listener.close()

    def close(self) -> None:
        self.stop_listening()
        for client in tuple(self._clients):
            client.close()

    def _connected(self, sock: socket.socket) -> None:
        if len(self._clients) >= _MAX_CLIENTS:
            # Who has not said a word makes room for who may be about to.
            silent = next((client for client in self._clients if not client.welcome), None)
            if silent is None:
                _log.warning("refused a control client: there are %d already", _MAX_CLIENTS)
                sock.close()
                return
            silent.close()
        self._clients[Client(self, self._loop, sock)] = None
