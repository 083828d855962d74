# SPDX-License-Identifier: MIT
"""Questions to a relay and its answers, which come in the same order."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ustconsumer.errors import BrokenResourceError, RemoteProtocolError
from ustconsumer.protocol.relay import Status
from ustconsumer.protocol.relayurl import RelayUrl
from ustconsumer.relay.wire import Wire

__all__ = ["Need", "RelayDialog"]

_MAX_TEXT = 1 << 12
_CHUNK_SIZE = 1 << 16
_STATUS = struct.Struct(">I")

#: From the beginning of an answer to its size, or to that of a beginning that says more.
Need = Callable[["bytes | bytearray"], int]


class _Expected(NamedTuple):
    """An answer that is to come."""

    need: Need
    deliver: Callable[[bytes], None]
    waiting: asyncio.Future[bytes] | None


class RelayDialog:
    """The control connection of a producer. Not thread-safe.

    Parameters
    ----------
    url : RelayUrl
        For what is said of it.
    wire : Wire
        Closed by its owner.

    Attributes
    ----------
    patient : bool
        The relay does not wait for acknowledgements between the parts of what it answers.
    """

    def __init__(self, url: RelayUrl, wire: Wire) -> None:
        self.url = url
        self.patient = False
        self._wire = wire
        self._expected: deque[_Expected] = deque()
        self._reader = asyncio.ensure_future(self._read())

    @property
    def failed(self) -> asyncio.Future[None]:
        """Done, with an exception, when the connection is of no use any more."""
        return self._reader

    async def end(self) -> None:
        """Read no more answers."""
        self._reader.cancel()
        with contextlib.suppress(BaseException):
            await self._reader

    def _ask(self, request: bytes, need: Need) -> asyncio.Future[bytes]:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.send(request, need, answer.set_result, answer)
        return answer

    def send(
        self,
        request: bytes,
        need: Need,
        deliver: Callable[[bytes], None],
        waiting: asyncio.Future[bytes] | None = None,
    ) -> None:
        """Make a request; its answer is delivered when it comes.

        Raises
        ------
        BrokenResourceError
            The connection is lost.
        """
        if self._reader.done():
            raise BrokenResourceError(f"relay {self.url}: the connection is lost")
        self._expected.append(_Expected(need, deliver, waiting))
        self._wire.write(request)

    async def call(self, request: bytes, size: int | Need) -> bytes:
        """Make a request and return its answer, of so many bytes.

        Raises
        ------
        BrokenResourceError, RemoteProtocolError
            The connection is lost, or the relay says something else.
        """
        answer = self._ask(request, size if callable(size) else lambda head: size)
        await self._wire.drain()
        return await answer

    async def checked(self, request: bytes, what: str) -> None:
        """Make a request that is answered with a status.

        Raises
        ------
        BrokenResourceError, RemoteProtocolError
            As `call`; or the relay refuses ``what``.
        """
        self.check(what, await self.call(request, _STATUS.size))

    def check(self, what: str, raw: bytes) -> None:
        """Raise `RemoteProtocolError` unless a status says that something is well."""
        (status,) = _STATUS.unpack(raw)
        if status != Status.OK:
            raise RemoteProtocolError(f"relay {self.url}: it refuses {what} (status {status})")

    def with_path(self, layout: struct.Struct) -> Need:
        """Return how long an answer is that ends with the length of a path and the path."""

        def need(head: bytes | bytearray) -> int:
            if len(head) < layout.size:
                return layout.size
            length: int = layout.unpack_from(head)[-1]
            if length > _MAX_TEXT:
                raise RemoteProtocolError(f"relay {self.url}: a path of {length} bytes")
            return layout.size + length

        return need

    async def _read(self) -> None:
        """Give answers to those who wait, in order, until the connection ends."""
        held = bytearray()
        lost: BaseException
        try:
            while True:
                chunk = await self._wire.read(_CHUNK_SIZE)
                if not chunk:
                    raise BrokenResourceError(f"relay {self.url}: it closed the connection")
                held += chunk
                if self._expected and not self.patient:
                    # LTTng's relay answers in small segments, each when the one before it is
                    # acknowledged; the system would do that 40 ms later.
                    self._wire.acknowledge()
                while self._expected:
                    size = self._expected[0].need(held)
                    if len(held) < size:
                        break
                    raw = bytes(held[:size])
                    del held[:size]
                    expected = self._expected.popleft()
                    if expected.waiting is None or not expected.waiting.done():
                        expected.deliver(raw)
                if held and not self._expected:
                    raise RemoteProtocolError(f"relay {self.url}: it answers what nobody asked")
        except BaseException as error:
            lost = error
        for expected in self._expected:
            if expected.waiting is not None and not expected.waiting.done():
                if isinstance(lost, Exception):
                    expected.waiting.set_exception(lost)
                    # Whether or not somebody still waits for it.
                    expected.waiting.exception()
                else:
                    expected.waiting.cancel()
        self._expected.clear()
        raise lost
