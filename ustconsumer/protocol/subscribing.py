# SPDX-License-Identifier: MIT
"""Control protocol: who reads the buffers of a session."""

from __future__ import annotations

import msgspec

from ustconsumer.protocol.messages import Message
from ustconsumer.protocol.model import ConsumerStats, Destination

__all__ = [
    "MESSAGES",
    "Attach",
    "Attached",
    "Describe",
    "Description",
    "Drain",
    "Drained",
    "HoleFound",
    "HoleVerdict",
    "Release",
    "SessionEnded",
    "StreamAdded",
    "StreamReady",
    "TimersChanged",
    "TraceAdded",
    "TraceClosed",
    "TraceDescription",
    "TraceEnded",
]


class Describe(Message, tag="describe", kw_only=True):
    """Ask for the layout of every event of a session, to walk packets without the metadata."""

    session: str


class TraceDescription(msgspec.Struct, kw_only=True):
    """Layout of one trace's records: see ``ustconsumer.ctf.skip`` for the steps."""

    #: directory below the output, for example "ust/uid/1000/64-bit"
    path: str
    #: directories of other traces whose records are laid out alike
    also: list[str] = []
    #: stream class id -> steps of the stream event context
    contexts: dict[int, list[tuple[int, int]]]
    #: stream class id -> event id -> steps of the payload
    events: dict[int, dict[int, list[tuple[int, int]]]]


class Description(Message, tag="description", kw_only=True):
    traces: list[TraceDescription]


class Attach(Message, tag="attach", kw_only=True):
    """Subscribe to a session's streams.

    ``consume`` asks for the lease (one holder); the registry keeps it until `Release`,
    the end of the connection, or the death of the peer's process.
    """

    session: str
    consume: bool
    #: "disk", or what the program calls itself
    kind: str


class Attached(Message, tag="attached", kw_only=True):
    """Reply to `Attach`; to a consumer with one descriptor: the read end of the wake-up pipe.

    An observer gets none: who reads the pipe takes the consumer's wake-ups. The streams that
    exist follow as pushes; ``streams`` says how many.
    """

    session: str
    id: str
    output: str
    streams: int
    destination: Destination = Destination()
    #: seconds since the epoch at which the session was created
    created: int = 0
    #: consumers that held the lease before
    turn: int = 0
    #: directory below the output of the trace chunk that is written; empty: directly there
    chunk: str = ""
    #: 0 for the session's first
    chunk_number: int = 0
    #: when it began, seconds since the epoch
    chunk_began: int = 0
    #: directory of the next one, while a rotation is under way: see `Rotate`
    following: str = ""
    following_began: int = 0


class TraceAdded(Message, tag="trace-added", kw_only=True):
    """Push, one descriptor: the metadata memfd, read-only (layout: `ustconsumer.ctf.metalog`)."""

    trace: str
    #: below the output, for example "ust/uid/1000/64-bit"
    path: str
    uuid: str
    uid: int
    #: the one process that writes it, with buffers per process; else 0
    pid: int = 0


class StreamAdded(Message, tag="stream-added", kw_only=True):
    """Push, one descriptor: the stream's memory. Answered by `StreamReady`."""

    stream: int
    trace: str
    channel: str
    channel_id: int
    cpu: int
    #: name of the layout rows in ``ustconsumer.abi``
    layout: str
    memory_size: int
    subbuf_size: int
    num_subbuf: int
    overwrite: bool
    by_writer: bool
    switch_timer_us: int
    read_timer_us: int = 0
    #: as of the channel's options
    tracefile_size: int = 0
    tracefile_count: int = 0


class StreamReady(Message, tag="stream-ready", kw_only=True):
    """Consumer to registry: the stream is mapped; the application may have it now."""

    stream: int
    #: empty, or why the consumer cannot read it
    problem: str = ""


class TimersChanged(Message, tag="timers-changed", kw_only=True):
    """Push: the streams of a channel, those to come too, have other timers than announced."""

    channel_id: int
    switch_timer_us: int
    read_timer_us: int


class TraceEnded(Message, tag="trace-ended", kw_only=True):
    """Push: no process writes this trace any more (buffers per process).

    The consumer switches, drains and closes its streams, then sends `TraceClosed`.
    """

    trace: str


class TraceClosed(Message, tag="trace-closed", kw_only=True):
    """Consumer to registry: the trace is complete in the sink, its memory unmapped."""

    trace: str
    stats: ConsumerStats


class HoleFound(Message, tag="hole-found", kw_only=True):
    """Consumer to registry: a sub-buffer stays uncommitted though writers went past it.

    Answered by `HoleVerdict` once it is known whether a living process may still commit.
    """

    stream: int
    #: consumed position when it was noticed
    position: int
    #: write position sampled before this message was sent
    produced: int


class HoleVerdict(Message, tag="hole-verdict", kw_only=True):
    """Push: the answer to `HoleFound`, whose fields it repeats.

    With an empty ``reason``, whatever is uncommitted below ``produced`` was reserved by a
    process that is dead, and may be repaired. Otherwise ``reason`` says who may still
    commit, in a line; the consumer asks again later.
    """

    stream: int
    position: int
    produced: int
    reason: str = ""
    #: layout of the trace's records, to find the events behind a hole
    description: TraceDescription | None = None


class Drain(Message, tag="drain", kw_only=True):
    """Push: no application of the session records any more. Switch, drain, then `Drained`."""

    #: names this drain in the answer
    token: int
    #: also close the packet being written (the final switch)
    final: bool


class Drained(Message, tag="drained", kw_only=True):
    """Consumer to registry: everything up to the drain is in the sink and visible to readers.

    Also the answer to `Rotate` and `Clear`.
    """

    #: that of the `Drain`; 0: nobody asked, there is a problem to be told
    token: int
    stats: ConsumerStats
    #: why what was asked was not done, empty if it was
    problem: str = ""
    #: where a relay has the chunk that a `Rotate` ended, below its own directory
    place: str = ""


class SessionEnded(Message, tag="session-ended", kw_only=True):
    """Push: the session was destroyed. Drain what is left, close, go."""


class Release(Message, tag="release", kw_only=True):
    """Consumer to registry: the lease is given back."""


#: Those of this module that travel.
MESSAGES: tuple[type[Message], ...] = (
    Describe,
    Attach,
    StreamReady,
    TraceClosed,
    HoleFound,
    Drained,
    Release,
    Description,
    Attached,
    TraceAdded,
    StreamAdded,
    TimersChanged,
    TraceEnded,
    HoleVerdict,
    Drain,
    SessionEnded,
)
