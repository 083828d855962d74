# SPDX-License-Identifier: MIT
"""What clients of the registry see: sessions, channels, rules, streams, programs."""

from __future__ import annotations

import msgspec

from ustconsumer.protocol.messages import MAX_COUNT

__all__ = [
    "AppInfo",
    "ChannelInfo",
    "ChannelLoad",
    "ChannelOptions",
    "ConsumerInfo",
    "ConsumerStats",
    "Destination",
    "EventInfo",
    "RotationSchedule",
    "SessionInfo",
    "StreamInfo",
]


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
    #: how often the registry samples how full the buffers are; 0: never
    monitor_timer_us: int = 1_000_000
    blocking_timeout_us: int = 0
    #: bytes of packets in a file of a stream, and how many files it has at most, the newest;
    #: 0: no limit
    tracefile_size: int = 0
    tracefile_count: int = 0


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
    #: "python": of loggers, ``pattern`` is the name of one or ``*``; else of user space
    domain: str = ""


class ChannelLoad(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the monitor timer saw of a channel's buffers; sizes in bytes."""

    #: written each second to all of them: between the last two samples, and between any two
    rate: int = 0
    highest_rate: int = 0
    #: events discarded each second, between the last two samples
    discarded_rate: int = 0
    #: of the buffer of one CPU
    capacity: int = 0
    #: not yet read, of the fullest buffer: at the last sample, and ever; in overwrite mode 0
    fill: int = 0
    highest_fill: int = 0
    #: in overwrite mode, microseconds of which the most written buffer holds the events, at the
    #: rate between the last two samples; 0: nothing was written
    history_us: int = 0
    #: bytes that the buffer of one CPU would have needed so that no event was discarded for want
    #: of room, as far as is known; 0: it had them, or nobody knows
    needed: int = 0
    #: sub-buffers that have them; 0: none are advised
    advised_subbuf_size: int = 0
    advised_num_subbuf: int = 0


class ChannelInfo(msgspec.Struct, kw_only=True):
    name: str
    enabled: bool
    options: ChannelOptions
    contexts: list[str]
    events: list[EventInfo]
    #: events lost so far in all its buffers, also in those that are gone
    discarded: int = 0
    #: absent before there are buffers, and where the monitor timer is 0
    load: ChannelLoad | None = None


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


class RotationSchedule(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """When a session is rotated by itself."""

    #: microseconds between rotations; 0: not by time
    timer_us: int = 0
    #: bytes in a chunk from which on there is another; 0: not by size
    size: int = 0


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
    #: applications that ever got buffers of this session, by pid; those of pid namespaces that
    #: the registry cannot see by another number, below 0
    processes: list[int]
    #: where else they go, and how
    destination: Destination = Destination()
    #: nothing is written until a snapshot is asked for
    snapshot: bool = False
    #: directory of the buffers' files; empty: they have none
    shm_path: str = ""
    #: traces of ended processes whose buffers were given up: newer ones took the room
    dropped: int = 0
    #: when it is rotated by itself
    rotation: RotationSchedule = RotationSchedule()
    #: trace chunks that are complete, in its archives
    archived: int = 0
    #: applications that did not answer in time, one line each
    slow: list[str] = []
    #: attribute of processes -> what of it is recorded; of those not here everything is
    trackers: dict[str, list[str]] = {}
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
    #: its pid in a pid namespace of its own; then ``pid`` is 0 if the registry cannot see it
    ns_pid: int = 0
