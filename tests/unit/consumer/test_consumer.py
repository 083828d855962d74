# SPDX-License-Identifier: MIT
"""The consumer's loop against a registry that says one thing and hangs up."""

from __future__ import annotations

import mmap
import os
import socket
import threading
import uuid
from pathlib import Path

import pytest
from helpers.rings import CHANNEL_ID, CPU, UUID
from helpers.ringwriter import RingWriter

from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.client.connection import Connection
from ustconsumer.consumer.consumer import Consumer
from ustconsumer.consumer.sinks.disk import DiskSink
from ustconsumer.consumer.subscription import Subscription
from ustconsumer.ctf.metalog import MetadataLogWriter
from ustconsumer.errors import BrokenResourceError
from ustconsumer.protocol.control import (
    VERSION,
    Attach,
    Attached,
    Drain,
    Drained,
    FrameDecoder,
    Hello,
    Message,
    SessionEnded,
    StreamAdded,
    StreamReady,
    TraceAdded,
    Welcome,
    encode,
)
from ustconsumer.ringbuffer.allocate import create_memory, initialise
from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.geometry import Geometry
from ustconsumer.ringbuffer.memory import StreamMemory

LAYOUT = "ust-9-x86_64"


class ScriptedRegistry:
    """Gives one stream with an open packet of ``events``, says ``last`` and hangs up."""

    def __init__(self, last: list[Message], events: int = 0):
        self._events = events
        self.socket, self.client = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.received: list[Message] = []
        self._last = last
        self._decoder = FrameDecoder()
        self._waiting: list[Message] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _send(self, *messages: Message, fd: int | None = None) -> None:
        fds = () if fd is None else (fd,)
        raw = b"".join(encode(message, len(fds)) for message in messages)
        socket.send_fds(self.socket, [raw], fds)
        if fd is not None:
            os.close(fd)

    def _next(self) -> Message:
        while not self._waiting:
            chunk = self.socket.recv(65536)
            assert chunk
            self._waiting += [message for message, _ in self._decoder.feed(chunk, [])]
        self.received.append(self._waiting.pop(0))
        return self.received[-1]

    def _run(self) -> None:
        hello = self._next()
        assert isinstance(hello, Hello)
        welcome = {"version": VERSION, "release": "0", "pid": 1, "uid": 0, "rundir": "/"}
        self._send(Welcome(seq=hello.seq, **welcome))
        attach = self._next()
        assert isinstance(attach, Attach)
        assert attach.consume
        # No application: the write end is closed at once.
        wake_read, wake_write = os.pipe()
        os.close(wake_write)
        attached = Attached(seq=attach.seq, session="s", id="i", output="", streams=1)
        self._send(attached, fd=wake_read)
        log = MetadataLogWriter(os.memfd_create("metadata"))
        log.append("/* CTF 1.8 */\n")
        trace = TraceAdded(
            trace="t", path="ust/uid/1/64-bit", uuid=str(uuid.UUID(bytes=UUID)), uid=1
        )
        self._send(trace, fd=log.reopen_read_only())
        log.close()
        self._send(self._stream(), fd=self._memory())
        ready = self._next()
        assert isinstance(ready, StreamReady)
        assert not ready.problem
        # In one piece, so that the consumer meets the end together with what came before.
        if self._last:
            self._send(*self._last)
        if any(isinstance(message, Drain) for message in self._last):
            assert isinstance(self._next(), Drained)
        self.socket.close()

    def _geometry(self) -> Geometry:
        return Geometry(RING_LAYOUTS[LAYOUT], 4096, 2)

    def _stream(self) -> StreamAdded:
        return StreamAdded(
            stream=1,
            trace="t",
            channel="c",
            channel_id=CHANNEL_ID,
            cpu=CPU,
            layout=LAYOUT,
            memory_size=self._geometry().file_size,
            subbuf_size=4096,
            num_subbuf=2,
            overwrite=False,
            by_writer=False,
            switch_timer_us=0,
        )

    def _memory(self) -> int:
        geometry = self._geometry()
        fd = create_memory(geometry, "test")
        with mmap.mmap(fd, geometry.file_size) as memory:
            initialise(
                memory,
                geometry,
                stream_nr=CPU,
                cpu=CPU,
                channel_id=CHANNEL_ID,
                uuid=UUID,
                now=1000,
                active_readers=1,
            )
            words = StreamMemory(memory, geometry)
            writer = RingWriter(Producer(words, UUID, CHANNEL_ID, CPU))
            for _ in range(self._events):
                assert writer.write(0, bytes(4), 2000) == 0
            words.release()
        return fd


def test_the_last_word_of_a_registry_is_read_though_it_hears_nothing_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = ScriptedRegistry([SessionEnded()])
    connection = Connection(registry.client, "consumer")
    subscription = Subscription(connection, "s", "library", lambda mapped: None)
    real = connection.send

    def send(message: Message) -> None:
        real(message)
        raise BrokenResourceError("lost the session registry")

    monkeypatch.setattr(connection, "send", send)
    while not subscription.orphaned:
        subscription.wait(1)
    assert subscription.ended
    registry.thread.join()
    subscription.close()


@pytest.mark.parametrize(
    ("last", "events", "packets"),
    [
        # Destroyed: it was stopped before, which closed the last packets.
        ([SessionEnded()], 0, 0),
        # Stopped, then destroyed: one packet, an empty one, and no second.
        ([Drain(token=5, final=True), SessionEnded()], 0, 1),
        ([Drain(token=5, final=False), SessionEnded()], 0, 0),
        # The registry died: nobody else closes the packet being written. An empty one may
        # be of a stream that it did not declare.
        ([], 1, 1),
        ([], 0, 0),
    ],
    ids=["destroyed", "stopped", "drained", "died", "died-before-an-event"],
)
def test_which_ends_close_the_open_packet(
    last: list[Message], events: int, packets: int, tmp_path: Path
) -> None:
    registry = ScriptedRegistry(last, events)
    consumer = Consumer(Connection(registry.client, "consumer"), "s", DiskSink(tmp_path), "disk")
    consumer.run()
    registry.thread.join()
    data = tmp_path / "ust" / "uid" / "1" / "64-bit" / f"c_{CPU}"
    # A packet is its header and events, padded to a page.
    assert data.stat().st_size == packets * 4096
    for message in registry.received:
        if isinstance(message, Drained):
            assert (message.token, message.stats.packets) == (5, packets)
