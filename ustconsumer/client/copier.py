# SPDX-License-Identifier: MIT
"""Copying what is in a session's buffers, for snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustconsumer.client.connection import Connection
from ustconsumer.protocol.control import SnapshotPlace

if TYPE_CHECKING:
    from ustconsumer.consumer.observer import Mappings
    from ustconsumer.consumer.snapshot import Snapshot

__all__ = ["Copier"]


class Copier:
    """Takes snapshots of one session; its buffers stay mapped from one to the next.

    Blocks while it copies, over a connection of its own. One thread at a time.

    Parameters
    ----------
    session : str
    """

    def __init__(self, session: str) -> None:
        self._session = session
        self._mappings: Mappings | None = None

    def copy(self, rundir: str, place: SnapshotPlace) -> Snapshot:
        """Write what is in the buffers now where the registry of ``rundir`` said."""
        # Not for who only controls sessions: numpy comes with it.
        from ustconsumer.consumer.observer import Mappings, Observer

        second = Connection.connect(rundir, role="observer")
        if self._mappings is None:
            self._mappings = Mappings()
        with Observer(second, self._session, self._mappings) as observer:
            if place.url:
                from ustconsumer.consumer.ship import send_snapshot

                return send_snapshot(observer, place)
            return observer.snapshot(place.path, place.max_size)

    def close(self) -> None:
        """Unmap the buffers."""
        if self._mappings is not None:
            self._mappings.close()
