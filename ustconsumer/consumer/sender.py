# SPDX-License-Identifier: MIT
"""The thread that brings a session's packets to a relay, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import traceback
from collections.abc import Callable

from ustconsumer.consumer.chunkchange import ChunkChange
from ustconsumer.consumer.delivery import Delivery
from ustconsumer.consumer.flow import Arrived, Flow, Keeper, Outgoing
from ustconsumer.consumer.packet import Stream, Trace
from ustconsumer.consumer.relaylink import Identity, RelayLink
from ustconsumer.consumer.traffic import WINDOW, Traffic
from ustconsumer.errors import UstConsumerError
from ustconsumer.protocol.relay import CloseCommand, CreateChunk
from ustconsumer.protocol.relayurl import RelayUrl
from ustconsumer.relay.wire import Credentials

__all__ = ["Sender"]

#: Seconds between two connections of which nothing came, doubled from the first on.
_RETRY, _MAX_RETRY = 0.1, 2.0
#: Without anything arriving for so long, the relay takes nothing.
_STALLED = 2.0


class Sender:
    """Sends packets and metadata to a relay, again where a connection breaks.

    Its methods are for the consumer's threads; the connection is a thread of its own.

    Parameters
    ----------
    url : RelayUrl
    credentials : Credentials
    identity : Identity
    report : callable
        Told what happens to the connection, one line each.
    keeper : Keeper, optional
        Of packets that the relay does not take now; closed by `close`.
    chunk, following : CreateChunk, optional
        The trace chunk that is written, and the next one that a consumer before us may have
        begun; default: the first.

    Attributes
    ----------
    fd : int
        Readable when something arrived, or the connection came or went.
    place : str
        Directory of the session below the relay's, where that says it.
    """

    def __init__(
        self,
        url: RelayUrl,
        credentials: Credentials,
        identity: Identity,
        report: Callable[[str], None] = lambda line: None,
        keeper: Keeper | None = None,
        chunk: CreateChunk | None = None,
        following: CreateChunk | None = None,
    ) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.place = ""
        self._url = url
        self._credentials = credentials
        self._identity = identity
        self._report = report
        self._traffic = Traffic(self._arrived, keeper)
        self._traffic.chunk = chunk
        self._following = following
        #: why nothing can be sent; empty while nobody has tried
        self._problem = ""
        #: what was said last; no news again before something has arrived
        self._said = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._thread.start()

    # -- for the consumer --------------------------------------------------------------

    def open(self, stream: Stream) -> Flow:
        """Take a stream."""
        with self._traffic.lock:
            return self._traffic.open(stream)

    def append_text(self, trace: Trace, text: bytes) -> None:
        """Take metadata text, whole declarations, before packets that need it."""
        with self._traffic.lock:
            self._traffic.text_of(trace).append(text)
        self._kick()

    def declared(self, stream: Stream) -> bool:
        """Return whether the metadata so far declares the stream's class."""
        with self._traffic.lock:
            return stream.channel_id in self._traffic.text_of(stream.trace).classes

    def obstacle(self, flow: Flow, size: int) -> str | None:
        """Return why so many bytes of a stream cannot be sent now; None if they can.

        Empty if that is nothing to speak of: a connection being made, or one that is slow.
        """
        traffic = self._traffic
        with traffic.lock:
            if not traffic.connected:
                return self._problem
            if flow.is_empty or traffic.held + size <= WINDOW:
                return None
            return f"relay {self._url}: it takes nothing" if traffic.still_s > _STALLED else ""

    @property
    def keeps(self) -> bool:
        """Whether packets that cannot be sent now are taken all the same."""
        return self._traffic.keeper is not None

    def put(self, flow: Flow, packet: Outgoing) -> None:
        """Take a packet to be sent, or to be kept.

        Raises
        ------
        OSError
            It cannot be kept.
        """
        blocked = self.keeps and self.obstacle(flow, packet.packet_size) is not None
        with self._traffic.lock:
            kept = blocked or flow.is_kept
            if kept:
                flow.keep(packet)
            else:
                self._traffic.put(flow, packet)
        if kept:
            # Its buffer is free: in a full one no writer would wake the reader any more.
            self._wake()
        self._kick()

    def say_idle(self, flow: Flow, timestamp: int) -> None:
        """Tell viewers that nothing older comes in a stream."""
        with self._traffic.lock:
            flow.beacon = timestamp
        self._kick()

    def take_arrived(self, flow: Flow) -> Arrived:
        """Return what has arrived of a stream since the last call."""
        with self._traffic.lock:
            return flow.take_arrived()

    def end(self, flow: Flow) -> None:
        """Take no more of a stream; what is here is sent still."""
        with self._traffic.lock:
            flow.ended = True
        self._kick()

    def end_trace(self, trace: Trace) -> None:
        """Take no more of a trace: all its streams have ended."""
        with self._traffic.lock:
            self._traffic.text_of(trace).ended = True
        self._kick()

    def change_chunk(self, chunk: CreateChunk, closed: int, delete: bool) -> ChunkChange:
        """Have what is here in the chunk so far, and all that comes in the next one.

        Its ``result`` is there when it is over; `fd` is readable then.

        Parameters
        ----------
        closed : int
            Seconds since the epoch.
        delete : bool
            Have the relay delete what it has.
        """
        traffic = self._traffic
        with traffic.lock:
            if traffic.change is not None and traffic.change.chunk.id == chunk.id:
                return traffic.change
            change = ChunkChange(chunk, closed, delete, traffic.flows)
            if traffic.chunk is not None and traffic.chunk.id == chunk.id:
                traffic.end_change(change, "")
            else:
                traffic.change = change
        self._kick()
        return change

    def go_on(self, change: ChunkChange) -> None:
        """Say that what has arrived was given back: the relay may begin the next chunk."""
        with self._traffic.lock:
            change.settled = True
        self._kick()

    def give_up(self, change: ChunkChange) -> str:
        """Let a change never be, unless the relay was told already; return why it is not."""
        with self._traffic.lock:
            problem = self._problem or f"relay {self._url}: it takes nothing"
            if not change.begun:
                self._traffic.end_change(change, problem)
            return problem

    def archive_last(self, closed: int) -> None:
        """Have the last chunk with the others, when the session has ended."""
        with self._traffic.lock:
            self._traffic.last_chunk = closed, CloseCommand.MOVE_TO_COMPLETED

    def close(self, seconds: float) -> int:
        """Send what is here, end the session and the thread.

        Parameters
        ----------
        seconds : float
            How long nothing may arrive before this gives up.

        Returns
        -------
        int
            Bytes that were not sent, or of which nobody knows whether they arrived.
        """
        with self._traffic.lock:
            self._traffic.end(seconds)
        self._kick()
        self._thread.join()
        os.close(self.fd)
        left = self._traffic.left
        if self._traffic.keeper is not None:
            self._traffic.keeper.close()
        return left

    def _kick(self) -> None:
        loop, event = self._loop, self._event
        if loop is not None and event is not None and not event.is_set():
            # The loop ends when everything has arrived.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

    # -- the thread ----------------------------------------------------------------------

    def _run(self) -> None:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        delay = _RETRY
        while not self._traffic.is_over:
            begin, arrived = self._loop.time(), self._traffic.arrivals
            await self._connect(self._event)
            if self._traffic.arrivals > arrived or self._loop.time() - begin > _MAX_RETRY:
                delay = _RETRY
                continue
            # One that takes connections and refuses what comes over them is not pestered either.
            await asyncio.sleep(delay)
            delay = min(2 * delay, _MAX_RETRY)

    async def _connect(self, event: asyncio.Event) -> None:
        """Bring what is on its way over one connection, as long as that is good for it."""
        try:
            link = await self._open()
        except Exception as error:
            self._failed(error)
            return
        self._identity = self._identity._replace(
            again=self._identity.again + 1, created=link.created
        )
        self.place = link.path
        try:
            self._found()
            await Delivery(self._traffic, link, event, self._identity.live_us).run()
        except Exception as error:
            self._failed(error)
            self._send_again(link)
        finally:
            await link.abort()

    async def _open(self) -> RelayLink:
        """Connect, to the chunk that is written."""
        with self._traffic.lock:
            change, chunk = self._traffic.change, self._traffic.chunk
            following = change.chunk if change and change.begun else self._following
        link = await RelayLink.open(self._url, self._credentials, self._identity, chunk, following)
        with self._traffic.lock:
            self._traffic.chunk, self._following = link.chunk, None
            change = self._traffic.change
            if change is not None and link.chunk and change.chunk.id == link.chunk.id:
                lost = "the connection was lost meanwhile: what it has of before is as it was"
                problem = "" if link.resumable else f"relay {self._url}: {lost}"
                self._traffic.end_change(change, problem)
                self._traffic.chunk = link.chunk
        return link

    def _failed(self, error: Exception) -> None:
        if isinstance(error, OSError | UstConsumerError):
            self._lost(str(error))
        elif self._lost(f"relay {self._url}: {error!r}"):
            # A mistake of ours, told in full; another connection may do without it.
            traceback.print_exception(error)

    def _send_again(self, link: RelayLink) -> None:
        with self._traffic.lock:
            count = self._traffic.send_again()
        if count and not link.resumable:
            # It cannot say what it has of them.
            self._report(
                f"relay {self._url}: {count} packets were under way: they are sent again, to a "
                "new trace, and may be in the last one as well"
            )

    def _found(self) -> None:
        with self._traffic.lock:
            self._traffic.connected = True
            self._problem = ""
        self._wake()

    def _lost(self, problem: str) -> bool:
        """Say that there is no connection, and why; return whether that is news."""
        with self._traffic.lock:
            self._traffic.connected = False
            self._problem = problem
            news, self._said = problem != self._said, problem
        if news:
            self._report(problem)
        self._wake()
        return news

    def _arrived(self) -> None:
        """Something has; the caller has the lock."""
        if self._said and self._traffic.connected:
            self._report(f"relay {self._url}: connected")
            self._said = ""
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self.fd, 1)
