# SPDX-License-Identifier: MIT
"""What the verbs need: the daemon as they see it, and the session that a peer means."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from sessiond.access import Access
from sessiond.recording import Recording
from sessiond.registry import Registry, Session
from sessiond.snapshots import Snapshots
from sessiond.spawner import Program
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import AppInfo, LoggingProgram

__all__ = ["Host", "Sessions"]


class Host(Protocol):
    """What the verbs need of the daemon."""

    registry: Registry
    access: Access
    snapshots: Snapshots

    def recording(self, session: Session) -> Recording:
        """Return the live side of a session."""

    def open(self, session: Session) -> None:
        """Make the live side of a new session; raises `QuotaError`."""

    def discard(self, session: Session) -> None:
        """Close the live side of a destroyed session."""

    async def settle(self, session: Session) -> list[str]:
        """Have the applications follow the last change; return those that did not, in a line."""

    def slow(self, session: Session) -> list[str]:
        """Return the applications that have not followed yet, one line each."""

    def applications(self, seen: Callable[[Session], bool] = lambda session: True) -> list[AppInfo]:
        """Return every application, also the refused, with nothing of sessions not ``seen``."""

    async def loggers(self, uid: int) -> list[LoggingProgram]:
        """Return the loggers of programs that a user may know of."""

    async def start_consumer(self, recording: Recording, program: Program) -> None:
        """Start a consumer and wait until it is attached."""

    def shutdown(self) -> None:
        """Begin the end."""


class Sessions:
    """Finds the session that a peer means, and gives it to one verb at a time.

    Parameters
    ----------
    host : Host
        The daemon.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def may_manage(self, uid: int, session: Session) -> bool:
        """May this peer see and change it?"""
        return self._host.access.may_manage(uid, session.uid)

    def find(self, uid: int, name: str) -> Session:
        """Return a session by name or id; another user's is as if it were not there.

        Raises
        ------
        CommandError
            There is none, or several users have one of that name.
        """
        named = self._host.registry.named(name, uid)
        found = [session for session in named if self.may_manage(uid, session)]
        if not found:
            raise _not_found(name)
        if len(found) > 1:
            uids = ", ".join(str(session.uid) for session in found)
            raise CommandError(
                f"several users (uids {uids}) have a session {name}: give its id instead, "
                "`drtrace --json list` shows it"
            )
        return found[0]

    @contextlib.asynccontextmanager
    async def changing(self, uid: int, name: str) -> AsyncIterator[Session]:
        """Give the session to one verb at a time."""
        session = self.find(uid, name)
        async with self._host.recording(session).lock:
            # Another may have destroyed it while we waited.
            if session.state == "destroyed":
                raise _not_found(name)
            yield session


def _not_found(name: str) -> CommandError:
    return CommandError(f"session {name!r} not found", "no-such-session")
