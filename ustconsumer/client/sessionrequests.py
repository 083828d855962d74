# SPDX-License-Identifier: MIT
"""What can be asked about one recording session; see `ustconsumer.client.exchange`.

The first parameter of each is the session's name; the front-ends, `Session` and `AsyncSession`,
fill it in and show the rest, with these docstrings.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from ustconsumer.client.exchange import Exchange, ask, done
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import (
    AddContext,
    AddSnapshotOutput,
    ChannelOptions,
    ClearSession,
    DelSnapshotOutput,
    Describe,
    Description,
    DestroySession,
    DisableChannel,
    DisableEvent,
    DisableRotation,
    EnableChannel,
    EnableEvent,
    EnableRotation,
    EventInfo,
    ListSessions,
    ListSnapshotOutputs,
    PauseSession,
    PrepareSnapshot,
    RegenerateMetadata,
    RegenerateStatedump,
    Rotated,
    RotateSession,
    RotationSchedule,
    SessionInfo,
    Sessions,
    SetOptions,
    SnapshotOutput,
    SnapshotOutputs,
    SnapshotPlace,
    SpawnConsumer,
    StartSession,
    StopSession,
    TraceDescription,
    Track,
)

__all__ = [
    "add_context",
    "add_snapshot_output",
    "clear",
    "del_snapshot_output",
    "describe",
    "destroy",
    "disable_channel",
    "disable_event",
    "disable_rotation",
    "enable_channel",
    "enable_event",
    "enable_rotation",
    "info",
    "pause",
    "prepare_snapshot",
    "regenerate_metadata",
    "regenerate_statedump",
    "rotate",
    "set_options",
    "snapshot_outputs",
    "spawn_consumer",
    "start",
    "stop",
    "track",
    "untrack",
]


def info(session: str) -> Exchange[SessionInfo]:
    """Return the session's state, its counters sampled now."""
    reply = yield from ask(ListSessions(session=session), Sessions)
    for each in reply.sessions:
        if each.name == session:
            return each
    raise CommandError(f"Session '{session}' not found", "no-such-session")


def describe(session: str) -> Exchange[list[TraceDescription]]:
    """Return the layout of the records of each trace, for `ustconsumer.ctf.count`."""
    return (yield from ask(Describe(session=session), Description)).traces


def enable_channel(
    session: str, name: str, options: ChannelOptions | None = None
) -> Exchange[list[str]]:
    """Create a channel.

    Parameters
    ----------
    name : str
        Becomes the prefix of its stream files.
    options : ChannelOptions, optional
        Default: 4 sub-buffers of 512 KiB per CPU, discarding; in snapshot mode overwriting.
    """
    if options is None:
        snapshot = (yield from info(session)).snapshot
        options = ChannelOptions(mode="overwrite" if snapshot else "discard")
    return (yield from done(EnableChannel(session=session, channel=name, options=options)))


def enable_event(
    session: str,
    pattern: str,
    channel: str = "",
    *,
    loglevel_type: int = 0,
    loglevel: int = -1,
    exclusions: Iterable[str] = (),
    filter: str | None = None,  # noqa: A002 - lttng's word
    domain: str = "",
) -> Exchange[list[str]]:
    """Record the events whose name matches.

    Parameters
    ----------
    pattern : str
        Event name, ``*`` matches anything.
    channel : str
        Default: the session's only channel, or a new ``channel0``.
    loglevel_type : {0, 1, 2}
        All levels, ``loglevel`` and more severe, exactly ``loglevel``.
    loglevel : int
        LTTng's number, 0 (EMERG) to 14 (DEBUG).
    exclusions : iterable of str
        Patterns of names left out.
    filter : str, optional
        Record only events of which this expression is true: ``size > 4096 && item ==
        "tea*"``, ``$ctx.vpid == 42``. Without one of the fields none is recorded.
    domain : {"", "python"}
        "python": what a logger of Python's logging says, in programs with LTTng's agent;
        ``pattern`` is its name, or ``*`` for all, levels are Python's (more severe is more).

    Raises
    ------
    FilterError
        The filter is no expression.
    """
    if filter is not None:
        from ustconsumer.client.filter import compile_filter

        compile_filter(filter)
    event = EventInfo(
        pattern=pattern,
        loglevel_type=loglevel_type,
        loglevel=loglevel,
        exclusions=list(exclusions),
        filter=filter or "",
        domain=domain,
    )
    return (yield from done(EnableEvent(session=session, channel=channel, event=event)))


def disable_event(
    session: str, patterns: Iterable[str] = (), channel: str = "", *, domain: str = ""
) -> Exchange[list[str]]:
    """Record the events of rules no more, until `enable_event` has them again.

    Parameters
    ----------
    patterns : iterable of str
        As they were enabled; every rule with that pattern, whatever its filter. Default:
        all rules of the channel.
    channel : str
        Default: the session's only channel.
    domain : {"", "python"}
        Of the rules, as in `enable_event`.

    Raises
    ------
    CommandError
        ``kind`` "no-such-event": no rule has such a pattern, none was disabled.
    """
    message = DisableEvent(session=session, channel=channel, patterns=list(patterns), domain=domain)
    return (yield from done(message))


def disable_channel(session: str, name: str) -> Exchange[list[str]]:
    """Record nothing in a channel until `enable_channel` names it again."""
    return (yield from done(DisableChannel(session=session, channel=name)))


def track(session: str, attribute: str, value: str | int = "") -> Exchange[list[str]]:
    """Record programs with this value of an attribute, too.

    Of each attribute everything is included until a value is: then only what was.

    Parameters
    ----------
    attribute : {"vpid", "vuid", "vgid", "name"}
        Of a process: its id where it runs, its user, its group, its program's name.
    value : str or int
        A number; the name of a user or group; a pattern of program names, ``*`` matches
        anything. Empty: everything.

    Raises
    ------
    CommandError
        ``kind`` "already": it is included by itself.
    """
    return (yield from done(Track(session=session, attribute=attribute, value=str(value))))


def untrack(session: str, attribute: str, value: str | int = "") -> Exchange[list[str]]:
    """Leave a value that `track` included out again; empty: everything."""
    return (
        yield from done(Track(session=session, attribute=attribute, value=str(value), remove=True))
    )


def add_context(session: str, contexts: Iterable[str], channel: str = "") -> Exchange[list[str]]:
    """Record context fields with every event of a channel (default: of all channels).

    Raises
    ------
    UsageError
        There is no such context.
    """
    from ustconsumer.protocol.contexts import parse_context

    wanted = list(contexts)
    for name in wanted:
        parse_context(name)
    message = AddContext(session=session, channel=channel, contexts=wanted)
    return (yield from done(message))


def spawn_consumer(
    session: str, kind: str = "", *, workers: int = 0, direct: bool = False
) -> Exchange[list[str]]:
    """Have the registry start a consumer; returns when it has attached.

    Does nothing if the session has one.

    Parameters
    ----------
    kind : str
        "disk" or "network"; empty: what the session's destination asks for.
    workers : int
        Most threads that move packets at a time; 0: the consumer's default, one.
    direct : bool
        Write past the page cache where sub-buffers are large enough.
    """
    message = SpawnConsumer(session=session, kind=kind, workers=workers, direct=direct)
    return (yield from done(message))


def start(session: str, consumer: str | None = "") -> Exchange[list[str]]:
    """Start recording; returns when every application that answers in time records.

    Parameters
    ----------
    consumer : str, optional
        Kind of consumer the registry starts first if the session has none.
        ``None`` starts none: the buffers fill until somebody attaches. A session in
        snapshot mode never has one.
    """
    warnings = []
    if consumer is not None:
        state = yield from info(session)
        if state.consumer is None and not state.snapshot:
            warnings = yield from spawn_consumer(session, consumer)
    return warnings + (yield from done(StartSession(session=session)))


def add_snapshot_output(
    session: str,
    path: str | os.PathLike[str],
    *,
    name: str = "",
    max_size: int = 0,
    data_url: str = "",
) -> Exchange[SnapshotOutput]:
    """Say where snapshots of this session go; parameters as those of `snapshot`."""
    output = _output(path, name, max_size, data_url)
    reply = yield from ask(AddSnapshotOutput(session=session, output=output), SnapshotOutputs)
    return reply.outputs[0]


def snapshot_outputs(session: str) -> Exchange[list[SnapshotOutput]]:
    """Return where snapshots of this session go; at most one."""
    return (yield from ask(ListSnapshotOutputs(session=session), SnapshotOutputs)).outputs


def del_snapshot_output(session: str, output: str) -> Exchange[None]:
    """Remove a snapshot output by its name or id."""
    yield from done(DelSnapshotOutput(session=session, output=output))


def prepare_snapshot(
    session: str,
    path: str | os.PathLike[str] | None = None,
    *,
    name: str = "",
    max_size: int = 0,
    switch: bool = False,
    data_url: str = "",
) -> Exchange[SnapshotPlace]:
    """Ask where the next snapshot goes, see `Session.snapshot`."""
    output = _output(path, name, max_size, data_url)
    request = PrepareSnapshot(session=session, output=output, switch=switch)
    return (yield from ask(request, SnapshotPlace))


def set_options(
    session: str,
    channel: str = "",
    *,
    subbuf_size: int | None = None,
    num_subbuf: int | None = None,
    mode: str | None = None,
    buffers: str | None = None,
    switch_timer_us: int | None = None,
    read_timer_us: int | None = None,
    monitor_timer_us: int | None = None,
    blocking_timeout_us: int | None = None,
    tracefile_size: int | None = None,
    tracefile_count: int | None = None,
) -> Exchange[list[str]]:
    """Change attributes of a channel (default: of all channels); `None`: as it is.

    All of them before the session's first start, afterwards the periods of timers only:
    the rest is fixed in the buffers that programs have.

    Parameters
    ----------
    channel : str
    subbuf_size, num_subbuf, mode, buffers, blocking_timeout_us
        As in `ChannelOptions`.
    switch_timer_us, read_timer_us, monitor_timer_us : int, optional
        Microseconds; 0: no timer. Whether there is a read timer is fixed at the first start.
    tracefile_size, tracefile_count : int, optional
        As in `ChannelOptions`.

    Raises
    ------
    CommandError
        One of them cannot change any more: nothing was changed.
    """
    asked = {
        "subbuf_size": subbuf_size,
        "num_subbuf": num_subbuf,
        "mode": mode,
        "buffers": buffers,
        "switch_timer_us": switch_timer_us,
        "read_timer_us": read_timer_us,
        "monitor_timer_us": monitor_timer_us,
        "blocking_timeout_us": blocking_timeout_us,
        "tracefile_size": tracefile_size,
        "tracefile_count": tracefile_count,
    }
    options = {name: value for name, value in asked.items() if value is not None}
    return (yield from done(SetOptions(session=session, channel=channel, options=options)))


def regenerate_metadata(session: str) -> Exchange[list[str]]:
    """Say anew in the metadata how the trace's clock relates to the time of day.

    For a clock that was set while the session records.

    Raises
    ------
    CommandError
        The session does not record, is live, or has buffers per process.
    """
    return (yield from done(RegenerateMetadata(session=session)))


def regenerate_statedump(session: str) -> Exchange[list[str]]:
    """Have every program that is recorded record its state again."""
    return (yield from done(RegenerateStatedump(session=session)))


def pause(session: str) -> Exchange[list[str]]:
    """Record nothing until `start`; buffers, consumer and trace stay as they are.

    Returns when no application is in the middle of an event.
    """
    return (yield from done(PauseSession(session=session)))


def stop(session: str) -> Exchange[list[str]]:
    """Stop recording; returns when the trace on disk is complete."""
    return (yield from done(StopSession(session=session)))


def rotate(session: str, *, wait: bool = True) -> Exchange[Rotated]:
    """Have what was recorded so far as a trace of its own, in the archives of the output.

    Parameters
    ----------
    wait : bool
        Return when nothing is written to it any more, not as soon as it is under way.

    Returns
    -------
    Rotated
        With the trace's directory.

    Raises
    ------
    CommandError
        The session was never started, has no consumer, or nothing was recorded since it was
        rotated last; ``kind`` "busy": it is being rotated.
    """
    return (yield from ask(RotateSession(session=session, wait=wait), Rotated))


def enable_rotation(session: str, *, timer_us: int = 0, size: int = 0) -> Exchange[list[str]]:
    """Have the session rotated by itself.

    Parameters
    ----------
    timer_us : int
        So often, microseconds; 0: not by time.
    size : int
        When a chunk has so many bytes; 0: not by size.
    """
    schedule = RotationSchedule(timer_us=timer_us, size=size)
    return (yield from done(EnableRotation(session=session, schedule=schedule)))


def disable_rotation(
    session: str, *, timer: bool = False, size: bool = False
) -> Exchange[list[str]]:
    """Have the session rotated by time, or by size, no more."""
    return (yield from done(DisableRotation(session=session, timer=timer, size=size)))


def clear(session: str) -> Exchange[list[str]]:
    """Forget what was recorded so far, in buffers and files; archives stay."""
    return (yield from done(ClearSession(session=session)))


def destroy(session: str) -> Exchange[list[str]]:
    """Stop if needed, close the trace, forget the session."""
    return (yield from done(DestroySession(session=session)))


def _output(
    path: str | os.PathLike[str] | None, name: str, max_size: int, data_url: str
) -> SnapshotOutput:
    place = "" if path is None else os.fspath(path)
    if path is not None:
        from ustconsumer.protocol.destinations import is_relay_url  # most requests need it not

        place = place if is_relay_url(place) else os.path.abspath(place)
    return SnapshotOutput(name=name, path=place, data_url=data_url, max_size=max_size)
