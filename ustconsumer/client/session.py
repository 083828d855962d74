# SPDX-License-Identifier: MIT
"""One recording session, driven over a blocking connection to the registry.

Its twin for asyncio is in `ustconsumer.client.aio`; what both say to the registry is in
`ustconsumer.client.sessionrequests`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from ustconsumer.client import sessionrequests as requests
from ustconsumer.client.connection import Connection
from ustconsumer.client.copier import Copier
from ustconsumer.client.exchange import shown_as
from ustconsumer.errors import CommandError

if TYPE_CHECKING:
    from ustconsumer.client.exchange import Exchange
    from ustconsumer.consumer.snapshot import Snapshot

__all__ = ["Session"]

P = ParamSpec("P")
T = TypeVar("T")


def _verb(
    exchange: Callable[Concatenate[str, P], Exchange[T]],
) -> Callable[Concatenate[Session, P], T]:
    """Make a method that carries out an exchange about the session."""

    def method(session: Session, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return session.connection.run(exchange(session.name, *args, **kwargs))

    return shown_as(method, exchange, "Session", given=1)


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
        self._copier = Copier(name)

    info = _verb(requests.info)
    describe = _verb(requests.describe)

    enable_channel = _verb(requests.enable_channel)
    disable_channel = _verb(requests.disable_channel)
    set_options = _verb(requests.set_options)
    enable_event = _verb(requests.enable_event)
    disable_event = _verb(requests.disable_event)
    add_context = _verb(requests.add_context)
    track = _verb(requests.track)
    untrack = _verb(requests.untrack)

    spawn_consumer = _verb(requests.spawn_consumer)
    start = _verb(requests.start)
    pause = _verb(requests.pause)
    stop = _verb(requests.stop)
    clear = _verb(requests.clear)
    regenerate_metadata = _verb(requests.regenerate_metadata)
    regenerate_statedump = _verb(requests.regenerate_statedump)

    rotate = _verb(requests.rotate)
    enable_rotation = _verb(requests.enable_rotation)
    disable_rotation = _verb(requests.disable_rotation)

    add_snapshot_output = _verb(requests.add_snapshot_output)
    snapshot_outputs = _verb(requests.snapshot_outputs)
    del_snapshot_output = _verb(requests.del_snapshot_output)

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
        place = self.connection.run(
            requests.prepare_snapshot(
                self.name, path, name=name, max_size=max_size, switch=switch, data_url=data_url
            )
        )
        return self._copier.copy(self.connection.welcome.rundir, place)

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = False) -> list[str]:
        """Write what the session is made of to ``NAME.lttng``, in LTTng's format.

        `Registry.load` and ``lttng load`` make it again.

        Parameters
        ----------
        directory : path
            Made if it is not there.

        Returns
        -------
        list of str
            What LTTng would not understand of it, one line each.

        Raises
        ------
        CommandError
            There is such a file, and ``overwrite`` is not set.
        OSError
            It cannot be written.
        """
        from ustconsumer.client.saved import describe
        from ustconsumer.client.sessionfiles import write_saved

        saved = self.connection.run(describe(self.name))
        write_saved(saved, os.fspath(directory), overwrite=overwrite)
        return saved.warnings

    @contextlib.contextmanager
    def recording(self, consumer: str | None = "") -> Iterator[list[str]]:
        """Record for the time of a block: `start`, and `stop` at its end.

        Yields the registry's warnings; those of the stop are added to them.
        """
        warnings = self.start(consumer)
        try:
            yield warnings
        finally:
            warnings += self.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[list[str]]:
        """Record nothing for the time of a block: `pause`, and `start` at its end.

        Yields the registry's warnings; those of the start are added to them.
        """
        warnings = self.pause()
        try:
            yield warnings
        finally:
            warnings += self.start(None)

    def destroy(self) -> list[str]:
        """Stop if needed, close the trace, forget the session."""
        self._copier.close()
        return self.connection.run(requests.destroy(self.name))

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
