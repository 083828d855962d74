# SPDX-License-Identifier: MIT
"""The registry as its clients see it, over a blocking connection.

Its twin for asyncio is in `ustconsumer.client.aio`; what both say to the registry is in
`ustconsumer.client.registryrequests`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from ustconsumer.client import registryrequests as requests
from ustconsumer.client.connection import Connection
from ustconsumer.client.exchange import shown_as
from ustconsumer.client.session import Session
from ustconsumer.protocol.control import Destination

if TYPE_CHECKING:
    from ustconsumer.client.exchange import Exchange
    from ustconsumer.client.saved import SavedSession
    from ustconsumer.client.triggers import Notifications

__all__ = ["Registry", "connect"]

P = ParamSpec("P")
T = TypeVar("T")


def _verb(exchange: Callable[P, Exchange[T]]) -> Callable[Concatenate[Registry, P], T]:
    """Make a method that carries out an exchange."""

    def method(registry: Registry, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return registry.connection.run(exchange(*args, **kwargs))

    return shown_as(method, exchange, "Registry")


class Registry:
    """A session registry over an open connection.

    Methods raise `CommandError` if it refuses. As a context manager the connection is closed at
    the end; sessions go on.

    Parameters
    ----------
    connection : Connection
        Taken over: closing the registry closes it.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    sessions = _verb(requests.sessions)
    applications = _verb(requests.applications)
    loggers = _verb(requests.loggers)

    add_trigger = _verb(requests.add_trigger)
    triggers = _verb(requests.triggers)
    remove_trigger = _verb(requests.remove_trigger)

    shutdown = _verb(requests.shutdown)

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
        self.connection.run(
            requests.create(
                name, output, snapshot=snapshot, shm_path=shm_path, destination=destination
            )
        )
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

        self.connection.run(make(saved, replace=replace))
        return Session(self.connection, saved.name)

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
