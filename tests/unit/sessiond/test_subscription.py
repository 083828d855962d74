# SPDX-License-Identifier: MIT
"""What descriptors of a trace can do in the hands of those they are sent to."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator, Sequence

import pytest

from sessiond import subscription
from sessiond.owners import Owner
from sessiond.registry import Session
from sessiond.sockets import Peer
from sessiond.subscription import Subscription
from sessiond.traces import Trace
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol.control import ChannelOptions, Message, StreamReady

UID = os.geteuid()


def make_trace(first_stream: int) -> Trace:
    session = Session(name="s", uid=UID, gid=os.getegid(), output="")
    session.add_channel("c", ChannelOptions(subbuf_size=4096, num_subbuf=2))
    owner = Owner(UID, "ust-9-x86_64", "2.13.5")
    trace = Trace(session, owner, "ust/uid/1/64-bit", first_stream)
    trace.allocate()
    return trace


@pytest.fixture
def trace() -> Iterator[Trace]:
    trace = make_trace(0)
    yield trace
    trace.close()


def received(trace: Trace, consume: bool, may_map: bool = True) -> list[tuple[str, int]]:
    """Return (message, how its descriptor was opened) of what announces a trace."""
    sent: list[tuple[str, int]] = []

    def push(message: Message, fds: Sequence[int]) -> None:
        (fd,) = fds
        # Another uid could open more through /proc/self/fd.
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        sent.append((type(message).__name__, fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE))

    peer = Peer(1, UID, 0)
    Subscription(peer, "test", consume, push, lambda uid: may_map).push_trace(trace)
    return sent


def test_a_consumer_writes_positions_and_nothing_else(trace: Trace) -> None:
    streams = [("StreamAdded", os.O_RDWR)] * possible_cpus()
    assert received(trace, consume=True) == [("TraceAdded", os.O_RDONLY), *streams]


def test_an_observer_writes_nothing(trace: Trace) -> None:
    streams = [("StreamAdded", os.O_RDONLY)] * possible_cpus()
    assert received(trace, consume=False) == [("TraceAdded", os.O_RDONLY), *streams]


def test_a_program_waits_for_its_own_streams_only(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others come all the time: with buffers per process there may be no quiet moment."""

    monkeypatch.setattr(subscription, "_READY_SECONDS", 60.0)

    async def scenario() -> None:
        consumer = Subscription(
            Peer(1, UID, 0), "test", True, lambda message, fds: None, lambda uid: True
        )
        consumer.push_trace(trace)
        waiting = asyncio.ensure_future(consumer.wait_ready(trace))
        await asyncio.sleep(0)
        later = make_trace(possible_cpus())
        consumer.push_trace(later)
        for stream in trace.streams:
            assert not waiting.done()
            consumer.ready(StreamReady(stream=stream.id))
        # Not what a consumer is given at most: the later one is not ready.
        await asyncio.wait_for(waiting, 30)
        impatient = asyncio.ensure_future(consumer.wait_ready(later))
        await asyncio.sleep(0)
        assert not impatient.done()
        consumer.end()
        await impatient
        later.close()

    asyncio.run(scenario())


def test_a_consumer_that_maps_nothing_is_not_waited_for(
    trace: Trace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its message is on the way, and the memory is ours: nothing is lost by going on."""
    monkeypatch.setattr(subscription, "_READY_SECONDS", 0.01)

    async def scenario() -> None:
        consumer = Subscription(
            Peer(1, UID, 0), "test", True, lambda message, fds: None, lambda uid: True
        )
        for each in (trace, make_trace(possible_cpus())):
            consumer.push_trace(each)
            await consumer.wait_ready(each)
            # Once is enough.
            await consumer.wait_ready(each)
            if each is not trace:
                each.close()

    asyncio.run(scenario())
    assert [record.message for record in caplog.records] == [
        f"consumer of pid 1 did not map {possible_cpus()} streams in 0 s: going on; "
        "more of this is not shown"
    ]


def test_the_end_of_a_trace_follows_its_streams(trace: Trace) -> None:
    """A consumer that comes after the process's end is told of everything at once."""
    trace.ended = True
    announced: list[Message] = []
    consumer = Subscription(
        Peer(1, UID, 0),
        "test",
        True,
        lambda message, fds: announced.append(message),
        lambda uid: True,
    )
    consumer.push_trace(trace)
    assert [type(message).__name__ for message in announced] == [
        "TraceAdded",
        *(["StreamAdded"] * possible_cpus()),
        "TraceEnded",
    ]


def test_a_consumer_without_the_right_to_a_uids_buffers_gets_none(trace: Trace) -> None:
    assert received(trace, consume=True, may_map=False) == []
