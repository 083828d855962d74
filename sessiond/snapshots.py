# SPDX-License-Identifier: MIT
"""Snapshots of sessions: their places, and those that the registry has taken itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sessiond.outputs import SnapshotOutputs
from sessiond.recording import Recording
from sessiond.registry import Session
from sessiond.spawner import Program
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import SnapshotOutput, SnapshotPlace

__all__ = ["Snapshots"]

_DRAIN_SECONDS = 10.0


class Snapshots:
    """The snapshots of every session.

    Parameters
    ----------
    recording_of : callable
        The live side of a session.
    run : callable
        Has the spawner run a program for a session; returns its exit status.
    """

    def __init__(
        self,
        recording_of: Callable[[Session], Recording],
        run: Callable[[Recording, Program], Awaitable[int]],
    ) -> None:
        self._recording_of = recording_of
        self._run = run

    def outputs(self, session: Session) -> SnapshotOutputs:
        """Return where the snapshots of a session go."""
        return self._recording_of(session).snapshot_outputs

    async def prepare(
        self, session: Session, output: SnapshotOutput, switch: bool = False
    ) -> SnapshotPlace:
        """Return the directory of the next snapshot.

        Parameters
        ----------
        switch : bool
            Close the packets being written first.

        Raises
        ------
        CommandError
            The session was never started, or there is no place for its snapshots, or its
            consumer did not close the packets being written.
        """
        if not session.started:
            raise CommandError(
                f"session {session.name} was never started: there is nothing to take a snapshot of"
            )
        recording = self._recording_of(session)
        place = recording.snapshot_outputs.place(output)
        if switch:
            # One that holds the lease switches; otherwise it is on us.
            if recording.lease is not None:
                pid = recording.lease.peer.pid
                if not await recording.lease.drain(True, _DRAIN_SECONDS):
                    raise CommandError(
                        f"the consumer (pid {pid}) of session {session.name} did not close the "
                        f"packets being written in {_DRAIN_SECONDS:.0f} s",
                        "timeout",
                    )
            else:
                await recording.switch()
        return place

    async def take(self, session: Session, output: SnapshotOutput) -> str:
        """Have a snapshot taken; return its directory, at a relay its name there.

        Raises
        ------
        CommandError
            It failed; its consumer has said why.
        """
        place = await self.prepare(session, output)
        program = Program(
            "snapshot",
            output=place.path,
            max_size=place.max_size,
            url=place.url,
            data_url=place.data_url,
            name=place.name,
        )
        status = await self._run(self._recording_of(session), program)
        if status:
            raise CommandError(
                f"the snapshot of session {session.name} in {place.path or place.url} failed "
                f"(status {status})"
            )
        return place.path or place.name
