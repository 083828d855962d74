# SPDX-License-Identifier: MIT
"""What descriptors of a trace can do in the hands of those they are sent to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence

import pytest

from sessiond.owners import Owner
from sessiond.registry import Session
from sessiond.sockets import Peer
from sessiond.subscription import Subscription
from sessiond.traces import Trace
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol.control import ChannelOptions, Message

UID = os.geteuid()


@pytest.fixture
def trace() -> Iterator[Trace]:
    session = Session(name="s", uid=UID, gid=os.getegid(), output="")
    session.add_channel("c", ChannelOptions(subbuf_size=4096, num_subbuf=2))
    trace = Trace(session, Owner(UID, "ust-9-x86_64", "2.13.5"), "ust/uid/1/64-bit", 0)
    trace.allocate()
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


def test_a_consumer_without_the_right_to_a_uids_buffers_gets_none(trace: Trace) -> None:
    assert received(trace, consume=True, may_map=False) == []
