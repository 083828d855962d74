# SPDX-License-Identifier: MIT
"""The registry as its clients see it: sessions, applications, shutdown."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from ustconsumer.client.connection import Connection
from ustconsumer.client.session import Session
from ustconsumer.errors import CommandError, RemoteProtocolError
from ustconsumer.protocol.control import (
    AddTrigger,
    AppInfo,
    Applications,
    CreateSession,
    Destination,
    Done,
    EventInfo,
    ListApplications,
    ListSessions,
    ListTriggers,
    Message,
    RemoveTrigger,
    SessionInfo,
    Sessions,
    Shutdown,
    TriggerAction,
    TriggerInfo,
    Triggers,
)

if TYPE_CHECKING:
    from ustconsumer.client.saved import SavedSession
    from ustconsumer.client.triggers import Notifications

__all__ = ["Registry", "connect"]

_Reply = TypeVar("_Reply", bound=Message)


class Registry:
    """A session registry over an open connection.

    Parameters
    ----------
    connection : Connection
        Taken over: closing the registry closes it.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def create(
        self,
        name: str,
        output: str | os.PathLike[str],
        *,
        snapshot: bool = False,
        shm_path: str | os.PathLike[str] | None = None,
        destination: Destination | None = None,
    ) -> Session:
        """Create a recording session that writes below ``output``.

        Parameters
        ----------
        name : str
            May not contain ``/``.
        output : path
            Made absolute; created by the consumer when there is something to write. Empty: none,
            where there is a relay to send to, or snapshots that name their directories.
        snapshot : bool
            Write nothing until `Session.snapshot`; channels overwrite by default.
        shm_path : path, optional
            Keep the buffers in files below this directory: what is in them outlives a crash.
        destination : Destination, optional
            A relay to send to, and the form of what is written.

        Raises
        ------
        CommandError
            ``kind`` "session-exists" for a taken name.
        """
        request = CreateSession(
            name=name,
            output="" if output == "" else os.path.abspath(output),
            snapshot=snapshot,
            shm_path="" if shm_path is None else os.path.abspath(shm_path),
            destination=destination or Destination(),
        )
        self.connection.request(request)
        return Session(self.connection, name)

    def load(self, saved: SavedSession, *, replace: bool = False) -> Session:
        """Make a session that was saved (`ustconsumer.client.sessionfiles.read_saved`).

        It is started if it was when it was saved. What of it cannot be is added to its
        ``warnings``.

        Parameters
        ----------
        replace : bool
            Destroy one of the same name first.

        Raises
        ------
        CommandError
            ``kind`` "session-exists", or the registry refuses what it is made of: nothing is
            left of it.
        """
        from ustconsumer.client.saved import make

        if replace:
            try:
                self.session(saved.name).destroy()
            except CommandError as error:
                if error.kind != "no-such-session":
                    raise
        return make(self, saved)

    def session(self, name: str) -> Session:
        """Return an existing session.

        Raises
        ------
        CommandError
            ``kind`` "no-such-session".
        """
        session = Session(self.connection, name)
        session.info()
        return session

    def sessions(self) -> list[SessionInfo]:
        """Return the sessions this user may see."""
        return self._ask(ListSessions(), Sessions).sessions

    def applications(self) -> list[AppInfo]:
        """Return the registered applications, and why one is not traced."""
        return self._ask(ListApplications(), Applications).applications

    # -- triggers ----------------------------------------------------------------------

    def add_trigger(
        self,
        pattern: str,
        *,
        name: str = "",
        actions: Iterable[TriggerAction] = (),
        captures: Iterable[str] = (),
        loglevel_type: int = 0,
        loglevel: int = -1,
        exclusions: Iterable[str] = (),
        filter: str | None = None,  # noqa: A002 - lttng's word
        uid: int | None = None,
    ) -> TriggerInfo:
        """Have something done whenever an event matches, in a program that is there or comes.

        Returns when every program that answers in time has it.

        Parameters
        ----------
        pattern, loglevel_type, loglevel, exclusions, filter
            Which events: as in `Session.enable_event`.
        name : str
            Default: ``trigger0``, ``trigger1`` ...
        actions : iterable of TriggerAction
            What is done, in this order. Default: notify.
        captures : iterable of str
            What of the event each notification tells: ``size``, ``ids[3]``, ``$ctx.vpid``.
        uid : int, optional
            Whose it is; only root may name somebody else.

        Raises
        ------
        CommandError
            ``kind`` "trigger-exists" for a taken name.
        UsageError
            A filter or a capture is none.
        """
        from ustconsumer.client.capture import compile_capture
        from ustconsumer.client.filter import compile_filter

        wanted = list(captures)
        for text in wanted:
            compile_capture(text)
        if filter is not None:
            compile_filter(filter)
        event = EventInfo(
            pattern=pattern,
            loglevel_type=loglevel_type,
            loglevel=loglevel,
            exclusions=list(exclusions),
            filter=filter or "",
        )
        request = AddTrigger(
            name=name,
            event=event,
            captures=wanted,
            actions=list(actions) or [TriggerAction(kind="notify")],
            uid=-1 if uid is None else uid,
        )
        return self._ask(request, Triggers).triggers[0]

    def triggers(self) -> list[TriggerInfo]:
        """Return the triggers this user may see."""
        return self._ask(ListTriggers(), Triggers).triggers

    def remove_trigger(self, name: str, *, uid: int | None = None) -> list[str]:
        """Remove a trigger; return the registry's warnings.

        Raises
        ------
        CommandError
            ``kind`` "no-such-trigger".
        """
        request = RemoveTrigger(name=name, uid=-1 if uid is None else uid)
        return self._ask(request, Done).warnings

    def notifications(self, *names: str, timeout: float | None = None) -> Notifications:
        """Return notifications of triggers with a "notify" action, from now on.

        Parameters
        ----------
        *names : str
            Of triggers; none for every one of this user, also of those added later.
        timeout : float, optional
            Seconds without one after which an iteration ends; default: never.

        Examples
        --------
        >>> with registry.notifications() as heard:
        ...     for notification in heard:
        ...         print(notification.trigger, notification.captures)
        """
        from ustconsumer.client.triggers import Notifications

        # Of its own: what is pushed to it must not wait between requests.
        connection = Connection.connect(self.connection.welcome.rundir)
        return Notifications(connection, names, timeout)

    def shutdown(self) -> None:
        """End the registry: it drains, closes its traces and exits."""
        self.connection.request(Shutdown())

    def close(self) -> None:
        """Close the connection; sessions go on."""
        self.connection.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, message: Message, expected: type[_Reply]) -> _Reply:
        reply = self.connection.request(message)
        if not isinstance(reply, expected):
            raise RemoteProtocolError(
                f"registry answered {type(reply).__name__} to {type(message).__name__}"
            )
        return reply


def connect(
    rundir: str | os.PathLike[str] | None = None, *, start: bool = False, group: str | None = None
) -> Registry:
    """Connect to the registry that serves this user.

    Parameters
    ----------
    rundir : path, optional
        Its run directory; default: the global one if it answers, else this user's.
    start : bool
        Start a lasting registry if none answers.
    group : str, optional
        Group that may control a global registry started here.

    Raises
    ------
    BrokenResourceError
        No registry answers, and ``start`` is false.
    CommandError
        The registry refused us, or could not be started: the message says why.
    """
    if not start:
        return Registry(Connection.connect(rundir))
    from ustconsumer.client.launch import ensure

    return Registry(ensure(rundir, group=group))
