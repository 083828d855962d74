# SPDX-License-Identifier: MIT
"""The relay: producers' connections, each in a task of its own, on one loop."""

from __future__ import annotations

import asyncio
import logging

from ustconsumer.abi.packet import DATA_PACKET
from ustconsumer.errors import ConnectionClosedError, RemoteProtocolError
from ustconsumer.protocol import relay
from ustconsumer.relay.control import MAX_PAYLOAD, Control
from ustconsumer.relay.sessions import RelaySession, Sessions
from ustconsumer.relay.streams import Incoming, RelayStream
from ustconsumer.relay.wire import Wire

__all__ = ["Relay"]

_log = logging.getLogger("ust-relayd")

_PART = 1 << 16
#: Bytes that follow a packet and are not sent: packets are rounded up to pages, not more. A
#: header alone could fill a disk.
_MAX_PADDING = 1 << 20
#: Seconds that a producer of ours has to come back before its viewers are told that it ended.
_ABSENCE = 10.0
#: Seconds that viewers get to read what is left of a session.
_FAREWELL = 60.0


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
        #: by session id: who sends to it now
        self._producers: dict[int, Wire] = {}

    async def control(self, wire: Wire) -> None:
        """Serve a control connection to its end."""
        control = Control(self._sessions, allow_clear=self._allow_clear)
        try:
            while not control.closing:
                head = await wire.readexactly(relay.HEADER.size)
                _, size, command, _ = relay.HEADER.unpack(head)
                if size > MAX_PAYLOAD:
                    raise RemoteProtocolError(f"a request of {size} bytes")
                payload = await wire.readexactly(size)
                before = control.session
                answer = control.handle(command, payload)
                if before is None and control.session is not None:
                    self._take_over(control.session, wire)
                if answer:
                    wire.write(answer)
                    await wire.drain()
        except (RemoteProtocolError, OSError) as error:
            _log.warning("control connection closed: %s", error)
        except (ConnectionClosedError, EOFError):
            pass
        finally:
            wire.close()
            if control.session is not None:
                self._left(control.session, wire)

    async def data(self, wire: Wire) -> None:
        """Serve a data connection to its end."""
        incoming: Incoming | None = None
        try:
            while True:
                head = await wire.readexactly(relay.DATA_HEADER.size)
                header = relay.decode_data_header(head)
                if header.padding > _MAX_PADDING:
                    raise RemoteProtocolError(f"a packet with {header.padding} bytes of padding")
                found = self._sessions.find_stream(header.handle)
                if found is None or not isinstance(found[1], RelayStream):
                    raise RemoteProtocolError(f"data for stream {header.handle}, which is none")
                part = await wire.readexactly(min(header.size, DATA_PACKET.size))
                incoming = found[1].begin(header, part)
                incoming.write(part)
                while incoming.left:
                    part = await wire.read(min(incoming.left, _PART))
                    if not part:
                        raise ConnectionClosedError("the connection ended in a packet")
                    incoming.write(part)
                incoming.finish()
                incoming = None
        except (RemoteProtocolError, OSError) as error:
            _log.warning("data connection closed: %s", error)
        except (ConnectionClosedError, EOFError):
            pass
        finally:
            if incoming is not None:
                incoming.abort()
            wire.close()

    def _take_over(self, session: RelaySession, wire: Wire) -> None:
        before = self._producers.get(session.id)
        self._producers[session.id] = wire
        if before is not None:
            before.close()

    def _left(self, session: RelaySession, wire: Wire) -> None:
        if self._producers.get(session.id) is not wire:
            return
        del self._producers[session.id]
        loop = asyncio.get_running_loop()
        ended = all(stream.closed for stream in session.streams)
        wait = _ABSENCE if session.resumable and not ended else 0.0
        loop.call_later(wait, self._end, session)

    def _end(self, session: RelaySession) -> None:
        if session.id in self._producers:
            return
        session.end()
        asyncio.get_running_loop().call_later(_FAREWELL, self._forget, session)

    def _forget(self, session: RelaySession) -> None:
        if session.id not in self._producers:
            self._sessions.forget(session)
