# SPDX-License-Identifier: MIT
"""One recording session, driven over a connection to the registry."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from ustconsumer.client.connection import Connection
from ustconsumer.errors import CommandError, RemoteProtocolError
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
    Done,
    EnableChannel,
    EnableEvent,
    EnableRotation,
    EventInfo,
    ListSessions,
    ListSnapshotOutputs,
    Message,
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

if TYPE_CHECKING:
    from ustconsumer.consumer.observer import Mappings
    from ustconsumer.consumer.snapshot import Snapshot

__all__ = ["Session"]


class Session:
    """A session of a registry; see `Registry.create` and `Registry.session`.

    As a context manager it is destroyed at the end: what was recorded stays on disk.

    Methods that change something return the registry's warnings, one line each,
    and raise `CommandError` if it refuses.

    Parameters
    ----------
    connection : Connection
        Shared, not closed here.
    name : str
        Not checked until the first request.

    Examples
    --------
    >>> with connect() as registry, registry.create("demo", "/tmp/demo") as session:
    ...     session.enable_event("app:*")
    ...     session.start()
    ...     run()
    ...     session.stop()
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        self.name = name
        self._mappings: Mappings | None = None

    def info(self) -> SessionInfo:
        """Return the session's state, its counters sampled now."""
        reply = self.connection.request(ListSessions(session=self.name))
        if not isinstance(reply, Sessions):
            raise RemoteProtocolError(f"registry answered {type(reply).__name__} to a list request")
        for session in reply.sessions:
            if session.name == self.name:
                return session
        raise CommandError(f"Session '{self.name}' not found", "no-such-session")

    def describe(self) -> list[TraceDescription]:
        """Return the layout of the records of each trace, for `ustconsumer.ctf.count`."""
        reply = self.connection.request(Describe(session=self.name))
        if not isinstance(reply, Description):
            raise RemoteProtocolError(f"registry answered {type(reply).__name__} to a describe")
        return reply.traces

    def enable_channel(self, name: str, options: ChannelOptions | None = None) -> list[str]:
        """Create a channel.

        Parameters
        ----------
        name : str
            Becomes the prefix of its stream files.
        options : ChannelOptions, optional
            Default: 4 sub-buffers of 512 KiB per CPU, discarding; in snapshot mode overwriting.
        """
        if options is None:
            options = ChannelOptions(mode="overwrite" if self.info().snapshot else "discard")
        return self._do(EnableChannel(session=self.name, channel=name, options=options))

    def enable_event(
        self,
        pattern: str,
        channel: str = "",
        *,
        loglevel_type: int = 0,
        loglevel: int = -1,
        exclusions: Iterable[str] = (),
        filter: str | None = None,  # noqa: A002 - lttng's word
    ) -> list[str]:
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
        )
        return self._do(EnableEvent(session=self.name, channel=channel, event=event))

    def disable_event(self, patterns: Iterable[str] = (), channel: str = "") -> list[str]:
        """Record the events of rules no more, until `enable_event` has them again.

        Parameters
        ----------
        patterns : iterable of str
            As they were enabled; every rule with that pattern, whatever its filter. Default:
            all rules of the channel.
        channel : str
            Default: the session's only channel.

        Raises
        ------
        CommandError
            ``kind`` "no-such-event": no rule has such a pattern, none was disabled.
        """
        message = DisableEvent(session=self.name, channel=channel, patterns=list(patterns))
        return self._do(message)

    def disable_channel(self, name: str) -> list[str]:
        """Record nothing in a channel until `enable_channel` names it again."""
        return self._do(DisableChannel(session=self.name, channel=name))

    def track(self, attribute: str, value: str | int = "") -> list[str]:
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
        return self._do(Track(session=self.name, attribute=attribute, value=str(value)))

    def untrack(self, attribute: str, value: str | int = "") -> list[str]:
        """Leave a value that `track` included out again; empty: everything."""
        return self._do(
            Track(session=self.name, attribute=attribute, value=str(value), remove=True)
        )

    def add_context(self, contexts: Iterable[str], channel: str = "") -> list[str]:
        """Record context fields with every event of a channel (default: of all channels)."""
        message = AddContext(session=self.name, channel=channel, contexts=list(contexts))
        return self._do(message)

    def spawn_consumer(
        self, kind: str = "", *, workers: int = 0, direct: bool = False
    ) -> list[str]:
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
        message = SpawnConsumer(session=self.name, kind=kind, workers=workers, direct=direct)
        return self._do(message)

    def start(self, consumer: str | None = "") -> list[str]:
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
            info = self.info()
            if info.consumer is None and not info.snapshot:
                warnings = self.spawn_consumer(consumer)
        return warnings + self._do(StartSession(session=self.name))

    def add_snapshot_output(
        self,
        path: str | os.PathLike[str],
        *,
        name: str = "",
        max_size: int = 0,
        data_url: str = "",
    ) -> SnapshotOutput:
        """Say where snapshots of this session go; parameters as those of `snapshot`."""
        output = _output(path, name, max_size, data_url)
        return self._outputs(AddSnapshotOutput(session=self.name, output=output))[0]

    def snapshot_outputs(self) -> list[SnapshotOutput]:
        """Return where snapshots of this session go; at most one."""
        return self._outputs(ListSnapshotOutputs(session=self.name))

    def del_snapshot_output(self, output: str) -> None:
        """Remove a snapshot output by its name or id."""
        self._do(DelSnapshotOutput(session=self.name, output=output))

    def snapshot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        name: str = "",
        max_size: int = 0,
        switch: bool = False,
        data_url: str = "",
    ) -> Snapshot:
        """Write what is in the buffers now to a directory, while everybody goes on.

        The session may be in any state after its first start, with a consumer or without.
        Nothing in the buffers changes: the next snapshot has the same events and newer ones.
        The buffers stay mapped in this process, for the next one, as long as this object lives.

        Parameters
        ----------
        path : path, optional
            Directory in which the snapshot gets one of its own, ``NAME-YYYYmmdd-HHMMSS-N``; or
            URL of a relay. Default: that of the session's snapshot output, else the session's
            output.
        name : str
            Default: that of the snapshot output, or ``snapshot-1``.
        max_size : int
            Bytes of packets at most, the newest; 0: that of the snapshot output, or all.
        switch : bool
            Close the packets being written first, as LTTng does. Their events are in the
            snapshot either way.
        data_url : str
            Of the relay's data port, if that is elsewhere: ``tcp://HOST:PORT``.

        Raises
        ------
        CommandError
            No such session, or it was never started, or the relay did not get it.
        UsageError
            ``max_size`` is less than a sub-buffer for each stream.
        OSError
            The directory cannot be written; nothing is left of it.
        """
        from ustconsumer.consumer.observer import Mappings, Observer

        output = _output(path, name, max_size, data_url)
        request = PrepareSnapshot(session=self.name, output=output, switch=switch)
        place = self.connection.request(request)
        if not isinstance(place, SnapshotPlace):
            raise RemoteProtocolError(f"registry answered {type(place).__name__} to a snapshot")
        second = Connection.connect(self.connection.welcome.rundir, role="observer")
        if self._mappings is None:
            self._mappings = Mappings()
        with Observer(second, self.name, self._mappings) as observer:
            if place.url:
                from ustconsumer.consumer.ship import send_snapshot

                return send_snapshot(observer, place)
            return observer.snapshot(place.path, place.max_size)

    async def snapshot_async(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        name: str = "",
        max_size: int = 0,
        switch: bool = False,
        data_url: str = "",
    ) -> Snapshot:
        """As `snapshot`, for a program with an asyncio loop, which goes on meanwhile.

        No other method may be called until it has returned: they share a connection.
        """
        import asyncio

        return await asyncio.to_thread(
            self.snapshot,
            path,
            name=name,
            max_size=max_size,
            switch=switch,
            data_url=data_url,
        )

    def set_options(
        self,
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
    ) -> list[str]:
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
        return self._do(SetOptions(session=self.name, channel=channel, options=options))

    def regenerate_metadata(self) -> list[str]:
        """Say anew in the metadata how the trace's clock relates to the time of day.

        For a clock that was set while the session records.

        Raises
        ------
        CommandError
            The session does not record, is live, or has buffers per process.
        """
        return self._do(RegenerateMetadata(session=self.name))

    def regenerate_statedump(self) -> list[str]:
        """Have every program that is recorded record its state again."""
        return self._do(RegenerateStatedump(session=self.name))

    def pause(self) -> list[str]:
        """Record nothing until `start`; buffers, consumer and trace stay as they are.

        Returns when no application is in the middle of an event.
        """
        return self._do(PauseSession(session=self.name))

    def stop(self) -> list[str]:
        """Stop recording; returns when the trace on disk is complete."""
        return self._do(StopSession(session=self.name))

    def rotate(self, *, wait: bool = True) -> Rotated:
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
        reply = self.connection.request(RotateSession(session=self.name, wait=wait))
        if not isinstance(reply, Rotated):
            raise RemoteProtocolError(f"registry answered {type(reply).__name__} to a rotation")
        return reply

    def enable_rotation(self, *, timer_us: int = 0, size: int = 0) -> list[str]:
        """Have the session rotated by itself.

        Parameters
        ----------
        timer_us : int
            So often, microseconds; 0: not by time.
        size : int
            When a chunk has so many bytes; 0: not by size.
        """
        schedule = RotationSchedule(timer_us=timer_us, size=size)
        return self._do(EnableRotation(session=self.name, schedule=schedule))

    def disable_rotation(self, *, timer: bool = False, size: bool = False) -> list[str]:
        """Have the session rotated by time, or by size, no more."""
        return self._do(DisableRotation(session=self.name, timer=timer, size=size))

    def clear(self) -> list[str]:
        """Forget what was recorded so far, in buffers and files; archives stay."""
        return self._do(ClearSession(session=self.name))

    def destroy(self) -> list[str]:
        """Stop if needed, close the trace, forget the session."""
        if self._mappings is not None:
            self._mappings.close()
        return self._do(DestroySession(session=self.name))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.destroy()
        except CommandError as refusal:
            if refusal.kind != "no-such-session":
                raise

    def _outputs(self, message: Message) -> list[SnapshotOutput]:
        reply = self.connection.request(message)
        if not isinstance(reply, SnapshotOutputs):
            raise RemoteProtocolError(
                f"registry answered {type(reply).__name__} to {type(message).__name__}"
            )
        return reply.outputs

    def _do(self, message: Message) -> list[str]:
        reply = self.connection.request(message)
        if not isinstance(reply, Done):
            raise RemoteProtocolError(
                f"registry answered {type(reply).__name__} to {type(message).__name__}"
            )
        return reply.warnings


def _output(
    path: str | os.PathLike[str] | None, name: str, max_size: int, data_url: str
) -> SnapshotOutput:
    place = "" if path is None else os.fspath(path)
    if path is not None:
        from ustconsumer.protocol.destinations import is_relay_url  # most requests need it not

        place = place if is_relay_url(place) else os.path.abspath(place)
    return SnapshotOutput(name=name, path=place, data_url=data_url, max_size=max_size)
