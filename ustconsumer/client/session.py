# SPDX-License-Identifier: MIT
"""One recording session, driven over a connection to the registry."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from ustconsumer.client.connection import Connection
from ustconsumer.errors import CommandError, RemoteProtocolError
from ustconsumer.protocol.control import (
    AddContext,
    ChannelOptions,
    Describe,
    Description,
    DestroySession,
    Done,
    EnableChannel,
    EnableEvent,
    EventInfo,
    ListSessions,
    Message,
    SessionInfo,
    Sessions,
    SpawnConsumer,
    StartSession,
    StopSession,
    TraceDescription,
)

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
            Default: 4 sub-buffers of 512 KiB per CPU, discarding.
        """
        options = options or ChannelOptions()
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

    def add_context(self, contexts: Iterable[str], channel: str = "") -> list[str]:
        """Record context fields with every event of a channel (default: of all channels)."""
        message = AddContext(session=self.name, channel=channel, contexts=list(contexts))
        return self._do(message)

    def spawn_consumer(
        self, kind: str = "disk", *, workers: int = 0, direct: bool = False
    ) -> list[str]:
        """Have the registry start a consumer; returns when it has attached.

        Does nothing if the session has one.

        Parameters
        ----------
        kind : str
        workers : int
            Most threads that move packets at a time; 0: the consumer's default, one.
        direct : bool
            Write past the page cache where sub-buffers are large enough.
        """
        message = SpawnConsumer(session=self.name, kind=kind, workers=workers, direct=direct)
        return self._do(message)

    def start(self, consumer: str | None = "disk") -> list[str]:
        """Start recording; returns when every application that answers in time records.

        Parameters
        ----------
        consumer : str, optional
            Kind of consumer the registry starts first if the session has none.
            ``None`` starts none: the buffers fill until somebody attaches.
        """
        warnings = []
        if consumer is not None and self.info().consumer is None:
            warnings = self.spawn_consumer(consumer)
        return warnings + self._do(StartSession(session=self.name))

    def stop(self) -> list[str]:
        """Stop recording; returns when the trace on disk is complete."""
        return self._do(StopSession(session=self.name))

    def destroy(self) -> list[str]:
        """Stop if needed, close the trace, forget the session."""
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

    def _do(self, message: Message) -> list[str]:
        reply = self.connection.request(message)
        if not isinstance(reply, Done):
            raise RemoteProtocolError(
                f"registry answered {type(reply).__name__} to {type(message).__name__}"
            )
        return reply.warnings
