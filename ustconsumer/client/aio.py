# SPDX-License-Identifier: MIT
"""The registry and its sessions for programs with an asyncio loop.

What `ustconsumer.client.registry` and `ustconsumer.client.session` have, with the same names and
parameters; their twins here wait without holding up the loop. What both say to the registry
is in `ustconsumer.client.registryrequests` and `ustconsumer.client.sessionrequests`.

Examples
--------
>>> async with aio.connect() as registry:
...     async with registry.create("demo", "/tmp/demo") as session:
...         await session.enable_event("app:*")
...         async with session.recording():
...             await run()
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from ustconsumer.client import registryrequests, sessionrequests
from ustconsumer.client.aioconnection import AsyncConnection
from ustconsumer.client.aiotriggers import AsyncNotifications
from ustconsumer.client.copier import Copier
from ustconsumer.client.exchange import shown_as
from ustconsumer.client.saved import describe, make
from ustconsumer.client.sessionfiles import write_saved
from ustconsumer.errors import CommandError

if TYPE_CHECKING:
    from ustconsumer.client.exchange import Exchange
    from ustconsumer.client.saved import SavedSession
    from ustconsumer.consumer.snapshot import Snapshot
    from ustconsumer.protocol.control import Destination, SnapshotPlace

__all__ = ["AsyncRegistry", "AsyncSession", "Opening", "connect"]


class _Closable(Protocol):
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=_Closable)


class Opening(Generic[C]):
    """Something on its way: ``await`` gives it, ``async with`` also ends it with the block.

    Parameters
    ----------
    coroutine : coroutine
        Returns it.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, C]) -> None:
        self._coroutine = coroutine
        self._opened: C

    def __await__(self) -> Generator[Any, Any, C]:
        return self._coroutine.__await__()

    async def __aenter__(self) -> C:
        self._opened = await self._coroutine
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._opened.__aexit__(kind, error, traceback)


def _session_verb(
    exchange: Callable[Concatenate[str, P], Exchange[T]],
) -> Callable[Concatenate[AsyncSession, P], Coroutine[Any, Any, T]]:
    """Make a method that carries out an exchange about the session."""

    async def method(session: AsyncSession, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await session.connection.run(exchange(session.name, *args, **kwargs))

    return shown_as(method, exchange, "AsyncSession", given=1)


def _registry_verb(
    exchange: Callable[P, Exchange[T]],
) -> Callable[Concatenate[AsyncRegistry, P], Coroutine[Any, Any, T]]:
    """Make a method that carries out an exchange."""

    async def method(registry: AsyncRegistry, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await registry.connection.run(exchange(*args, **kwargs))

    return shown_as(method, exchange, "AsyncRegistry")


class AsyncSession:
    """A session of a registry; see `AsyncRegistry.create` and `AsyncRegistry.session`.

    With ``async with`` it is destroyed at the end: what was recorded stays on disk.

    Methods that change something return the registry's warnings, one line each,
    and raise `CommandError` if it refuses. Several tasks may call them at once.

    Parameters
    ----------
    connection : AsyncConnection
        Shared, not closed here.
    name : str
        Not checked until the first request.
    """

    def __init__(self, connection: AsyncConnection, name: str) -> None:
        self.connection = connection
        self.name = name
        self._copier = Copier(name)
        #: one thread at a time copies, also after the task that asked for it was cancelled
        self._copying = threading.Lock()
        self._copied = False

    info = _session_verb(sessionrequests.info)
    describe = _session_verb(sessionrequests.describe)

    enable_channel = _session_verb(sessionrequests.enable_channel)
    disable_channel = _session_verb(sessionrequests.disable_channel)
    set_options = _session_verb(sessionrequests.set_options)
    enable_event = _session_verb(sessionrequests.enable_event)
    disable_event = _session_verb(sessionrequests.disable_event)
    add_context = _session_verb(sessionrequests.add_context)
    track = _session_verb(sessionrequests.track)
    untrack = _session_verb(sessionrequests.untrack)

    spawn_consumer = _session_verb(sessionrequests.spawn_consumer)
    start = _session_verb(sessionrequests.start)
    pause = _session_verb(sessionrequests.pause)
    stop = _session_verb(sessionrequests.stop)
    clear = _session_verb(sessionrequests.clear)
    regenerate_metadata = _session_verb(sessionrequests.regenerate_metadata)
    regenerate_statedump = _session_verb(sessionrequests.regenerate_statedump)

    rotate = _session_verb(sessionrequests.rotate)
    enable_rotation = _session_verb(sessionrequests.enable_rotation)
    disable_rotation = _session_verb(sessionrequests.disable_rotation)

    add_snapshot_output = _session_verb(sessionrequests.add_snapshot_output)
    snapshot_outputs = _session_verb(sessionrequests.snapshot_outputs)
    del_snapshot_output = _session_verb(sessionrequests.del_snapshot_output)

    async def snapshot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        name: str = "",
        max_size: int = 0,
        switch: bool = False,
        data_url: str = "",
    ) -> Snapshot:
        """Write what is in the buffers now to a directory, while everybody goes on.

        As `Session.snapshot`; a thread copies, over a connection of its own. It copies to the
        end also if the task is cancelled.
        """
        place = await self.connection.run(
            sessionrequests.prepare_snapshot(
                self.name, path, name=name, max_size=max_size, switch=switch, data_url=data_url
            )
        )
        self._copied = True
        return await asyncio.to_thread(self._copy, place)

    async def save(
        self, directory: str | os.PathLike[str], *, overwrite: bool = False
    ) -> list[str]:
        """Write what the session is made of to ``NAME.lttng``, in LTTng's format.

        As `Session.save`.
        """
        saved = await self.connection.run(describe(self.name))
        await asyncio.to_thread(write_saved, saved, os.fspath(directory), overwrite=overwrite)
        return saved.warnings

    @contextlib.asynccontextmanager
    async def recording(self, consumer: str | None = "") -> AsyncIterator[list[str]]:
        """Record for the time of a block: `start`, and `stop` at its end.

        Yields the registry's warnings; those of the stop are added to them.
        """
        warnings = await self.start(consumer)
        try:
            yield warnings
        finally:
            warnings += await self.stop()

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[list[str]]:
        """Record nothing for the time of a block: `pause`, and `start` at its end.

        Yields the registry's warnings; those of the start are added to them.
        """
        warnings = await self.pause()
        try:
            yield warnings
        finally:
            warnings += await self.start(None)

    async def destroy(self) -> list[str]:
        """Stop if needed, close the trace, forget the session."""
        if self._copied:
            await asyncio.to_thread(self._unmap)
        return await self.connection.run(sessionrequests.destroy(self.name))

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.destroy()
        except CommandError as refusal:
            if refusal.kind != "no-such-session":
                raise

    def _copy(self, place: SnapshotPlace) -> Snapshot:
        with self._copying:
            return self._copier.copy(self.connection.welcome.rundir, place)

    def _unmap(self) -> None:
        with self._copying:
            self._copier.close()


class AsyncRegistry:
    """A session registry over an open connection.

    Methods raise `CommandError` if it refuses; several tasks may call them at once, and are
    served one after the other. With ``async with`` the connection is closed at the end;
    sessions go on.

    Parameters
    ----------
    connection : AsyncConnection
        Taken over: closing the registry closes it.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    sessions = _registry_verb(registryrequests.sessions)
    applications = _registry_verb(registryrequests.applications)
    loggers = _registry_verb(registryrequests.loggers)

    add_trigger = _registry_verb(registryrequests.add_trigger)
    triggers = _registry_verb(registryrequests.triggers)
    remove_trigger = _registry_verb(registryrequests.remove_trigger)

    shutdown = _registry_verb(registryrequests.shutdown)

    def create(
        self,
        name: str,
        output: str | os.PathLike[str],
        *,
        snapshot: bool = False,
        shm_path: str | os.PathLike[str] | None = None,
        destination: Destination | None = None,
    ) -> Opening[AsyncSession]:
        """Create a recording session that writes below ``output``, as `Registry.create`.

        With ``async with`` it is destroyed at the end.
        """
        return self._opening(
            name,
            registryrequests.create(
                name, output, snapshot=snapshot, shm_path=shm_path, destination=destination
            ),
        )

    def load(self, saved: SavedSession, *, replace: bool = False) -> Opening[AsyncSession]:
        """Make a session that was saved, as `Registry.load`.

        With ``async with`` it is destroyed at the end.
        """
        return self._opening(saved.name, make(saved, replace=replace))

    def session(self, name: str) -> Opening[AsyncSession]:
        """Return an existing session.

        With ``async with`` it is destroyed at the end.

        Raises
        ------
        CommandError
            ``kind`` "no-such-session".
        """
        return self._opening(name, sessionrequests.info(name))

    def notifications(self, *names: str, timeout: float | None = None) -> AsyncNotifications:
        """Return notifications of triggers with a "notify" action, as `Registry.notifications`.

        From when ``async with`` enters them, or from the first that is waited for.

        Examples
        --------
        >>> async with registry.notifications() as heard:
        ...     async for notification in heard:
        ...         print(notification.trigger, notification.captures)
        """
        return AsyncNotifications(self.connection.welcome.rundir, names, timeout)

    async def close(self) -> None:
        """Close the connection; sessions go on."""
        self.connection.close()

    async def __aenter__(self) -> AsyncRegistry:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.connection.close()

    def _opening(self, name: str, exchange: Exchange[Any]) -> Opening[AsyncSession]:
        async def opened() -> AsyncSession:
            await self.connection.run(exchange)
            return AsyncSession(self.connection, name)

        return Opening(opened())


def connect(
    rundir: str | os.PathLike[str] | None = None, *, start: bool = False, group: str | None = None
) -> Opening[AsyncRegistry]:
    """Connect to the registry that serves this user.

    Parameters
    ----------
    rundir : path, optional
        Its run directory; default: the global one if it answers, else this user's.
    start : bool
        Start a lasting registry if none answers.
    group : str, optional
        Group that may control a global registry started here.

    Returns
    -------
    Opening of AsyncRegistry
        ``async with connect() as registry:`` or ``registry = await connect()``.

    Raises
    ------
    BrokenResourceError
        No registry answers, and ``start`` is false.
    CommandError
        The registry refused us, or could not be started: the message says why.
    """

    async def connected() -> AsyncRegistry:
        place = await asyncio.to_thread(_ensure, rundir, group) if start else rundir
        return AsyncRegistry(await AsyncConnection.connect(place))

    return Opening(connected())


def _ensure(rundir: str | os.PathLike[str] | None, group: str | None) -> str:
    """Return the run directory of a registry that answers."""
    from ustconsumer.client.launch import ensure

    with ensure(rundir, group=group) as connection:
        return connection.welcome.rundir
