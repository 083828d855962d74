# SPDX-License-Identifier: MIT
"""The relay: producers' connections, each in a task of its own, on one loop."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from ustconsumer.abi.packet import DATA_PACKET
from ustconsumer.errors import ConnectionClosedError, RemoteProtocolError
from ustconsumer.protocol import relay
from ustconsumer.protocol.relay import Command
from ustconsumer.relay.control import METADATA_HEAD, Control, check_size
from ustconsumer.relay.sessions import RelaySession, Sessions, Stream
from ustconsumer.relay.streams import RelayStream
from ustconsumer.relay.wire import Wire

__all__ = ["Relay"]

_log = logging.getLogger("ust-relayd")

_PART = 1 << 16
#: Seconds that a producer of ours has to come back before its viewers are told that it ended.
_ABSENCE = 10.0
#: Seconds that packets may still be on their way when their producer is gone.
_LAST_PACKETS = 10.0
#: Seconds that viewers get to read what is left of a session.
_FAREWELL = 60.0
#: Seconds that a producer of ours waits at most for the answer whether a packet has arrived.
_MOMENT = 0.1


class _Parts(Protocol):
    """What comes in parts."""

    left: int

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...

    def abort(self) -> None: ...


class Relay:
    """Serves producers.

    Parameters
    ----------
    sessions : Sessions
    allow_clear : bool
    """

    def __init__(self, sessions: Sessions, *, allow_clear: bool = True) -> None:
        self._sessions = sessions
        self._allow_clear = allow_clear
        #: by session id: who sends to it now, and over which data connections
        self._producers: dict[int, Wire] = {}
        self._sources: dict[int, set[Wire]] = {}
        #: by session id: done when the next packet is whole, if somebody waits for it
        self._arrivals: dict[int, asyncio.Future[None]] = {}

    async def control(self, wire: Wire) -> None:
        """Serve a control connection to its end."""
        control = Control(self._sessions, allow_clear=self._allow_clear)
        try:
            while not control.closing:
                await self._request(control, wire)
        except RemoteProtocolError as error:
            _log.warning("%s: control connection closed: %s", _who(wire, control.session), error)
        except OSError as error:
            self._break(control.session, error)
        except (ConnectionClosedError, EOFError):
            pass
        finally:
            wire.close()
            if control.session is not None:
                self._left(control.session, wire)

    async def _request(self, control: Control, wire: Wire) -> None:
        head = await wire.readexactly(relay.HEADER.size)
        _, size, command, _ = relay.HEADER.unpack(head)
        check_size(command, size)
        if command == Command.SEND_METADATA:
            first = await wire.readexactly(min(size, METADATA_HEAD))
            await _receive(wire, control.begin_metadata(first, size - len(first)))
            return
        payload = await wire.readexactly(size)
        if command == Command.DATA_PENDING:
            await self._arrival(control, payload)
        before = control.session
        answer = control.handle(command, payload)
        if before is None and control.session is not None:
            self._take_over(control.session, wire)
        if answer:
            wire.write(answer)
            await wire.drain()

    async def _arrival(self, control: Control, question: bytes) -> None:
        """Wait a moment until what a producer of ours asks about has arrived.

        It need not ask again and again; its packets came before its question.
        """
        session = control.session
        if session is None or not session.resumable:
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + _MOMENT
        while control.is_pending(question) and (left := end - loop.time()) > 0:
            arrival = self._arrivals.setdefault(session.id, loop.create_future())
            await asyncio.wait((arrival,), timeout=left)

    def _arrived(self, session: RelaySession | None) -> None:
        """Let go on who waits for a packet of a session."""
        if session is not None and session.id in self._arrivals:
            arrival = self._arrivals.pop(session.id)
            if not arrival.done():
                arrival.set_result(None)

    async def data(self, wire: Wire) -> None:
        """Serve a data connection to its end."""
        session: RelaySession | None = None
        try:
            while True:
                header = relay.decode_data_header(await wire.readexactly(relay.DATA_HEADER.size))
                stream = session.find(header.handle) if session is not None else None
                if stream is None:
                    session, stream = self._find(header.handle)
                    self._feed(session, wire)
                if not isinstance(stream, RelayStream):
                    raise RemoteProtocolError(f"data for stream {header.handle}, the metadata")
                first = await wire.readexactly(min(header.size, DATA_PACKET.size))
                incoming = stream.begin(header, first)
                await _receive(wire, incoming, first)
                self._arrived(session)
        except RemoteProtocolError as error:
            _log.warning("%s: data connection closed: %s", _who(wire, session), error)
        except OSError as error:
            self._break(session, error)
        except (ConnectionClosedError, EOFError):
            pass
        finally:
            wire.close()
            self._dry(wire)

    def _find(self, handle: int) -> tuple[RelaySession, Stream]:
        found = self._sessions.find_stream(handle)
        if found is None:
            raise RemoteProtocolError(f"data for stream {handle}, which is none")
        return found

    def _feed(self, session: RelaySession, wire: Wire) -> None:
        """Let a connection have a session's packets: it alone, whoever guesses its handles.

        Raises
        ------
        RemoteProtocolError
            Another one has them.
        """
        sources = self._sources.setdefault(session.id, set())
        if sources - {wire}:
            raise RemoteProtocolError(f"session {session.name} has another data connection")
        sources.add(wire)

    def _take_over(self, session: RelaySession, wire: Wire) -> None:
        before = self._producers.get(session.id)
        self._producers[session.id] = wire
        if before is not None:
            before.close()
            for source in self._sources.pop(session.id, set()):
                source.close()

    def _break(self, session: RelaySession | None, error: OSError) -> None:
        """End a session that cannot be written: its producer is to know, others go on."""
        if session is None:
            _log.warning("connection closed: %s", error.strerror)
            return
        if not session.closed:
            _log.error("session %s: ended, it cannot be written: %s", session.name, error.strerror)
        session.end()
        producer = self._producers.get(session.id)
        for wire in (producer, *self._sources.get(session.id, ())):
            if wire is not None:
                wire.close()

    def _left(self, session: RelaySession, wire: Wire) -> None:
        if self._producers.get(session.id) is not wire:
            return
        del self._producers[session.id]
        loop = asyncio.get_running_loop()
        if session.resumable and not all(stream.closed for stream in session.streams):
            loop.call_later(_ABSENCE, self._end, session)
        elif self._sources.get(session.id) or session.is_waiting:
            # Its last packets are still on their way: two connections, one is faster.
            loop.call_later(_LAST_PACKETS, self._end, session)
        else:
            self._end(session)

    def _dry(self, wire: Wire) -> None:
        """No more packets come over a data connection."""
        for number, wires in tuple(self._sources.items()):
            wires.discard(wire)
            session = self._sessions.get(number)
            if wires:
                continue
            del self._sources[number]
            if session is not None and not session.resumable:
                self._end(session)

    def _end(self, session: RelaySession) -> None:
        if session.id in self._producers or self._sessions.get(session.id) is not session:
            return
        session.end()
        asyncio.get_running_loop().call_later(
            _FAREWELL if session.live_us else 0.0, self._forget, session
        )

    def _forget(self, session: RelaySession) -> None:
        if session.id not in self._producers:
            self._arrived(session)
            self._sessions.forget(session)


async def _receive(wire: Wire, incoming: _Parts, first: bytes = b"") -> None:
    """Have what comes in parts stored, or nothing of it."""
    try:
        incoming.write(first)
        while incoming.left:
            part = await wire.read(min(incoming.left, _PART))
            if not part:
                raise ConnectionClosedError("the connection ended in the middle")
            incoming.write(part)
        incoming.finish()
    except BaseException:
        incoming.abort()
        raise


def _who(wire: Wire, session: RelaySession | None) -> str:
    return wire.peer if session is None else f"session {session.name}"
