# SPDX-License-Identifier: MIT
"""Control protocol between the registry and its clients: messages and framing, no I/O.

A frame is an 8-byte header (``<IHxx``: length of the body, number of descriptors),
then a msgpack body. Descriptors ride on the first byte of their frame (SCM_RIGHTS),
so they arrive no later than the header that counts them and in frame order.

A client sends `Hello` first and gets `Welcome` or `Failed`. Then it sends requests;
each carries a ``seq`` that its one reply repeats. The registry pushes messages
(``Push``) only to connections that sent `Attach`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from ustconsumer.errors import RemoteProtocolError, UsageError

__all__ = [
    "ERROR_KINDS",
    "HEADER",
    "MAX_BODY",
    "MAX_COUNT",
    "MAX_FDS",
    "VERSION",
    "AddContext",
    "AddSnapshotOutput",
    "AddTrigger",
    "AppInfo",
    "Applications",
    "Attach",
    "Attached",
    "ChannelInfo",
    "ChannelOptions",
    "ConsumerInfo",
    "ConsumerStats",
    "CreateSession",
    "DelSnapshotOutput",
    "Describe",
    "Description",
    "Destination",
    "DestroySession",
    "Done",
    "Drain",
    "Drained",
    "EnableChannel",
    "EnableEvent",
    "EventInfo",
    "Failed",
    "FrameDecoder",
    "Hello",
    "HoleFound",
    "HoleVerdict",
    "ListApplications",
    "ListSessions",
    "ListSnapshotOutputs",
    "ListTriggers",
    "Listen",
    "Message",
    "Notification",
    "PauseSession",
    "PrepareSnapshot",
    "Release",
    "RemoveTrigger",
    "SessionEnded",
    "SessionInfo",
    "Sessions",
    "Shutdown",
    "SnapshotOutput",
    "SnapshotOutputs",
    "SnapshotPlace",
    "SpawnConsumer",
    "StartSession",
    "StopSession",
    "StreamAdded",
    "StreamInfo",
    "StreamReady",
    "TraceAdded",
    "TraceClosed",
    "TraceDescription",
    "TraceEnded",
    "TriggerAction",
    "TriggerInfo",
    "Triggers",
    "Welcome",
    "decode",
    "encode",
]

VERSION = 1
HEADER = struct.Struct("<IHxx")
MAX_BODY = 16 << 20
MAX_FDS = 16
#: What a message can say of a sum of counters.
MAX_COUNT = (1 << 64) - 1
#: ``Failed.kind``: what a program may branch on.
ERROR_KINDS = (
    "refused",
    "no-such-session",
    "session-exists",
    "no-such-channel",
    "channel-exists",
    "no-such-trigger",
    "trigger-exists",
    "invalid",
    "permission",
    "busy",
    "already",
    "timeout",
    "version",
)


class Message(msgspec.Struct, tag_field="type", kw_only=True, omit_defaults=True):
    """Base of every message. ``seq`` pairs a reply with its request; 0 on a push."""

    seq: int = 0


class Hello(Message, tag="hello", kw_only=True):
    version: int
    #: "client", "consumer" or "observer": shown by ``drtrace status``.
    role: str = "client"
    release: str = ""


class Welcome(Message, tag="welcome", kw_only=True):
    version: int
    release: str
    pid: int
    uid: int
    rundir: str


# -- what a session is made of ------------------------------------------------


class ChannelOptions(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Attributes of a channel; sizes in bytes, times in microseconds."""

    subbuf_size: int = 524288
    num_subbuf: int = 4
    #: "discard" or "overwrite"
    mode: str = "discard"
    #: "uid" or "pid"
    buffers: str = "uid"
    switch_timer_us: int = 0
    read_timer_us: int = 0
    blocking_timeout_us: int = 0


class EventInfo(msgspec.Struct, kw_only=True):
    """One event rule of a channel."""

    pattern: str
    enabled: bool = True
    #: 0 all, 1 "at least as severe", 2 exactly
    loglevel_type: int = 0
    loglevel: int = -1
    exclusions: list[str] = []
    #: an expression, see `ustconsumer.client.filter`; empty: none
    filter: str = ""


class ChannelInfo(msgspec.Struct, kw_only=True):
    name: str
    enabled: bool
    options: ChannelOptions
    contexts: list[str]
    events: list[EventInfo]
    #: events lost so far in all its buffers, also in those that are gone
    discarded: int = 0


class StreamInfo(msgspec.Struct, kw_only=True):
    """One ring buffer, its shared counters sampled now; positions in bytes."""

    id: int
    trace: str
    channel: str
    cpu: int
    produced: int
    consumed: int
    lost_full: int
    lost_wrap: int
    lost_big: int

    @property
    def lost(self) -> int:
        """Events lost for any reason; writers can store what they like, a word holds it."""
        return min(self.lost_full + self.lost_wrap + self.lost_big, MAX_COUNT)


class ConsumerStats(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Totals of a consumer since it attached."""

    packets: int = 0
    bytes: int = 0
    #: packets with a hole, left by a process that was killed while it wrote
    repaired: int = 0
    #: what the last drain had to leave in the buffers because the output took nothing
    unwritten_bytes: int = 0
    unwritten_events: int = 0
    #: directory of the trace below the relay's, where it says so
    place: str = ""
    #: sub-buffers given up or streams closed, one line each
    problems: list[str] = []


class ConsumerInfo(msgspec.Struct, kw_only=True):
    pid: int
    kind: str
    stats: ConsumerStats


class Destination(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """Where packets go beside, or instead of, the session's directory, and in which form."""

    #: of the relay, see `ustconsumer.protocol.relayurl`; empty: to none
    url: str = ""
    #: of its data port, if that is elsewhere: ``tcp://HOST:PORT``
    data_url: str = ""
    #: microseconds after which an idle stream says so to viewers; 0: not a live session
    live_us: int = 0
    #: compression level of the files in the directory; 0: plain files
    zstd: int = 0
    #: absolute directory for packets that the relay does not take now; empty: they wait in the
    #: buffers
    spool: str = ""
    #: bytes that it may have; 0: no limit
    spool_size: int = 0
    #: files, absolute: a secret shared with the relay, whom we trust to sign its certificate
    #: (empty: the system's), our own certificate and its key
    token_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


class SessionInfo(msgspec.Struct, kw_only=True):
    name: str
    id: str
    uid: int
    gid: int
    #: "configured", "active", "paused", "inactive" (after a stop)
    state: str
    #: directory of the trace, absolute; empty without output
    output: str
    created: str
    channels: list[ChannelInfo]
    streams: list[StreamInfo]
    consumer: ConsumerInfo | None
    #: applications that ever got buffers of this session, by pid
    processes: list[int]
    #: where else they go, and how
    destination: Destination = Destination()
    #: nothing is written until a snapshot is asked for
    snapshot: bool = False
    #: directory of the buffers' files; empty: they have none
    shm_path: str = ""
    #: traces of ended processes whose buffers were given up: newer ones took the room
    dropped: int = 0
    #: applications that did not answer in time, one line each
    slow: list[str] = []
    #: what kept packets from the consumer's sink, one line each
    problems: list[str] = []


class AppInfo(msgspec.Struct, kw_only=True):
    pid: int
    ppid: int
    uid: int
    gid: int
    name: str
    abi: str
    bits: int
    #: version of the tracer, "2.13.5", once known
    tracer: str
    #: "registering", "registered", "slow", "refused", or "unregistered": a forked child
    #: that writes through its parent's registration
    state: str
    #: sessions that record it
    sessions: list[str]
    #: why it is not traced or does not follow, empty if it is and does
    reason: str = ""


# -- requests of control clients ----------------------------------------------


class CreateSession(Message, tag="create", kw_only=True):
    name: str
    #: absolute directory; created by the consumer; empty: none
    output: str
    destination: Destination = Destination()
    #: nothing is written until a snapshot is asked for; channels overwrite by default
    snapshot: bool = False
    #: absolute directory in which the buffers are files; empty: memory without a name
    shm_path: str = ""
    #: environment values that go into the metadata are the registry's business


class DestroySession(Message, tag="destroy", kw_only=True):
    session: str


class EnableChannel(Message, tag="enable-channel", kw_only=True):
    session: str
    channel: str
    options: ChannelOptions


class EnableEvent(Message, tag="enable-event", kw_only=True):
    session: str
    #: empty: the session's only channel, or a new "channel0"
    channel: str = ""
    event: EventInfo


class AddContext(Message, tag="add-context", kw_only=True):
    session: str
    #: empty: every channel (a new "channel0" if there is none)
    channel: str = ""
    contexts: list[str]


class StartSession(Message, tag="start", kw_only=True):
    """Replied to when every application that answers in time records."""

    session: str


class StopSession(Message, tag="stop", kw_only=True):
    """Replied to when the trace in the consumer's sink is complete."""

    session: str


class PauseSession(Message, tag="pause", kw_only=True):
    """Record nothing until the next `StartSession`; buffers, consumer and trace stay as they are.

    Replied to when no application is in the middle of an event.
    """

    session: str


class ListSessions(Message, tag="list", kw_only=True):
    #: empty: all that the peer may see
    session: str = ""


class Sessions(Message, tag="sessions", kw_only=True):
    sessions: list[SessionInfo]


class ListApplications(Message, tag="apps", kw_only=True):
    pass


class Applications(Message, tag="applications", kw_only=True):
    applications: list[AppInfo]


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


# -- snapshots --------------------------------------------------------------------


class SnapshotOutput(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where snapshots of a session go unless they say otherwise."""

    #: 1 for the first; 0 where it is not known yet
    id: int = 0
    #: becomes the first part of the name of each snapshot's directory
    name: str = ""
    #: absolute directory, or URL of a relay; empty: the session's output
    path: str = ""
    #: of a relay's data port, if that is elsewhere: see `Destination`
    data_url: str = ""
    #: bytes of packets that one snapshot may have; 0: no limit
    max_size: int = 0


class AddSnapshotOutput(Message, tag="add-snapshot-output", kw_only=True):
    """Replied to with `SnapshotOutputs`, the new one alone."""

    session: str
    output: SnapshotOutput


class DelSnapshotOutput(Message, tag="del-snapshot-output", kw_only=True):
    session: str
    #: its name or its id
    output: str


class ListSnapshotOutputs(Message, tag="list-snapshot-outputs", kw_only=True):
    session: str


class SnapshotOutputs(Message, tag="snapshot-outputs", kw_only=True):
    outputs: list[SnapshotOutput]


class PrepareSnapshot(Message, tag="prepare-snapshot", kw_only=True):
    """Ask where the next snapshot goes; who takes it reads the buffers as an observer.

    Empty fields of ``output`` are those of the session's snapshot output.
    """

    session: str
    output: SnapshotOutput
    #: close the packets being written first, as LTTng does
    switch: bool = False


class SnapshotPlace(Message, tag="snapshot-place", kw_only=True):
    """Reply to `PrepareSnapshot`: a directory of its own, not there yet."""

    #: absolute; empty: it goes to a relay
    path: str
    max_size: int = 0
    #: of the relay: see `Destination`
    url: str = ""
    data_url: str = ""
    #: of its directory there, below the session's
    name: str = ""


# -- triggers -----------------------------------------------------------------------


class TriggerAction(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What happens when a trigger's condition is met."""

    #: "notify", "snapshot", "start" or "stop"
    kind: str
    #: of the last three
    session: str = ""
    #: of a snapshot
    output: SnapshotOutput | None = None
    #: "every": each Nth time; "once-after": the Nth time only; empty: always
    rate: str = ""
    rate_count: int = 0
    #: times it could not be done
    failed: int = 0


class TriggerInfo(msgspec.Struct, kw_only=True):
    """A trigger: its condition is an event that matches."""

    name: str
    #: whose it is; events are those that a session of this user could record
    uid: int
    event: EventInfo
    #: expressions, see `ustconsumer.client.capture`
    captures: list[str]
    actions: list[TriggerAction]
    #: times its condition was met
    hits: int = 0
    #: notifications that programs could not deliver or that made no sense
    lost: int = 0
    #: why something is not done, one line each
    problems: list[str] = []


class AddTrigger(Message, tag="add-trigger", kw_only=True):
    """Replied to with `Triggers`, the new one alone, when programs that answer have it."""

    #: empty: the registry makes one
    name: str = ""
    event: EventInfo
    captures: list[str] = []
    actions: list[TriggerAction]
    #: whose it is; -1: the peer's. Root may say another.
    uid: int = -1


class RemoveTrigger(Message, tag="remove-trigger", kw_only=True):
    name: str
    uid: int = -1


class ListTriggers(Message, tag="list-triggers", kw_only=True):
    """All that the peer may see."""


class Triggers(Message, tag="triggers", kw_only=True):
    triggers: list[TriggerInfo]


class Listen(Message, tag="listen", kw_only=True):
    """Have notifications pushed to this connection, from the reply (`Done`) on."""

    #: names; empty: of every trigger of the peer, also of those added later
    triggers: list[str] = []


class Notification(Message, tag="notification", kw_only=True):
    """Push: a trigger with a "notify" action fired."""

    trigger: str
    #: of the program, 0 if it is not known
    pid: int
    #: wall-clock time at which the registry noticed, nanoseconds
    time: int
    #: one value each: number, text, list, None if the event has no such field;
    #: an enumeration is a map with its number as "value"
    captures: list[Any] = []
    #: notifications before this one that the peer did not take in time
    missed: int = 0


class SpawnConsumer(Message, tag="spawn-consumer", kw_only=True):
    """Have the spawner start a consumer; replied to when it has attached."""

    session: str
    #: empty: "network" if the session has a relay's URL, else "disk"
    kind: str = ""
    #: most threads that move packets; 0: the consumer's default
    workers: int = 0
    #: write past the page cache where sub-buffers are large enough
    direct: bool = False


class Shutdown(Message, tag="shutdown", kw_only=True):
    """End the registry: drain, close, exit 0."""


class Done(Message, tag="done", kw_only=True):
    """The request succeeded; ``warnings`` are one line each."""

    warnings: list[str] = []


class Failed(Message, tag="failed", kw_only=True):
    message: str
    kind: str = "refused"


# -- attach: a subscription -----------------------------------------------------


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


class StreamReady(Message, tag="stream-ready", kw_only=True):
    """Consumer to registry: the stream is mapped; the application may have it now."""

    stream: int
    #: empty, or why the consumer cannot read it
    problem: str = ""


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
    """Consumer to registry: everything up to the drain is in the sink and visible to readers."""

    #: that of the `Drain`; 0: nobody asked, there is a problem to be told
    token: int
    stats: ConsumerStats


class SessionEnded(Message, tag="session-ended", kw_only=True):
    """Push: the session was destroyed. Drain what is left, close, go."""


class Release(Message, tag="release", kw_only=True):
    """Consumer to registry: the lease is given back."""


_REQUESTS = (
    Hello
    | PauseSession
    | AddSnapshotOutput
    | DelSnapshotOutput
    | ListSnapshotOutputs
    | PrepareSnapshot
    | AddTrigger
    | RemoveTrigger
    | ListTriggers
    | Listen
    | CreateSession
    | DestroySession
    | EnableChannel
    | EnableEvent
    | AddContext
    | StartSession
    | StopSession
    | ListSessions
    | ListApplications
    | Describe
    | SpawnConsumer
    | Shutdown
    | Attach
    | StreamReady
    | TraceClosed
    | HoleFound
    | Drained
    | Release
)
_REPLIES = (
    Welcome
    | Done
    | Failed
    | Sessions
    | Applications
    | Description
    | SnapshotOutputs
    | SnapshotPlace
    | Triggers
    | Notification
    | Attached
    | TraceAdded
    | StreamAdded
    | TraceEnded
    | HoleVerdict
    | Drain
    | SessionEnded
)
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(_REQUESTS | _REPLIES)


def encode(message: Message, fds: int = 0) -> bytes:
    """Return the frame of a message that travels with ``fds`` descriptors.

    Raises
    ------
    UsageError
        A text in it is not Unicode (a file name or argument in another encoding), or a
        number has more than 64 bits.
    """
    try:
        body = _encoder.encode(message)
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r} is not UTF-8 text: use another name") from None
    except OverflowError:
        raise UsageError(f"a number is too large: at most {MAX_COUNT}") from None
    return HEADER.pack(len(body), fds) + body


def decode(body: bytes | memoryview) -> Message:
    """Return the message of a frame's body.

    Raises
    ------
    RemoteProtocolError
        Not msgpack, no known type, or fields of the wrong type.
    """
    try:
        message: Message = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(f"control message: {error}") from None
    return message


class FrameDecoder:
    """Turn received bytes and descriptors into messages.

    Owns the descriptors it was fed until it hands them out with their message;
    `close` returns those left, for the caller to close.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: list[int] = []

    def feed(self, chunk: bytes, fds: list[int]) -> Iterator[tuple[Message, list[int]]]:
        """Add what one ``recvmsg`` gave; yield each complete message with its descriptors.

        Raises
        ------
        RemoteProtocolError
            A frame too large, fewer descriptors than announced, or an invalid body.
        """
        self._buffer += chunk
        self._fds += fds
        if len(self._fds) > 4 * MAX_FDS:
            raise RemoteProtocolError("control connection: more descriptors than announced")
        while len(self._buffer) >= HEADER.size:
            length, count = HEADER.unpack_from(self._buffer)
            if length > MAX_BODY or count > MAX_FDS:
                raise RemoteProtocolError(
                    f"control frame of {length} bytes and {count} descriptors: too large"
                )
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            if len(self._fds) < count:
                raise RemoteProtocolError(
                    f"control frame announces {count} descriptors, {len(self._fds)} came"
                )
            message = decode(bytes(self._buffer[HEADER.size : end]))
            del self._buffer[:end]
            mine, self._fds = self._fds[:count], self._fds[count:]
            yield message, mine

    def close(self) -> list[int]:
        """Return the descriptors never handed out."""
        left, self._fds = self._fds, []
        return left
