# SPDX-License-Identifier: MIT
"""Connections of programs that have not registered yet, and which of them goes first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

from sessiond.sockets import Peer
from ustconsumer.protocol.application import Registration

__all__ = ["CROWD", "HalfOpen", "Hall"]

#: Silent connections of one uid that are more than programs make that start together.
CROWD = 32


class HalfOpen:
    """A connection that has not said yet who it is, or whose twin is not there yet."""

    def __init__(self, sock: socket.socket, peer: Peer) -> None:
        self.sock = sock
        self.peer = peer
        self.raw = bytearray()
        self.registration: Registration | None = None
        self.timer: asyncio.TimerHandle | None = None
        # The sockets of `ustconsumer.tracer` have names (the kernel's choice), those of
        # liblttng-ust have none: a program with both registers twice.
        self.named = False
        with contextlib.suppress(OSError):
            self.named = bool(sock.getpeername())

    def key(self, socket_type: int) -> tuple[int, bool, int]:
        """Return what tells apart the connections that belong to one registration."""
        return self.peer.key, self.named, socket_type

    @property
    def unfinished(self) -> str:
        """What its registration lacks, as the rest of a sentence about the program."""
        if self.registration is not None:
            return "connected once of the two times that make a registration"
        return "connected and did not say all of its registration"

    def move_down(self) -> None:
        """Have it use the lowest free descriptor.

        Raises
        ------
        OSError
            None is free.
        """
        lower = socket.socket(fileno=os.dup(self.sock.fileno()))
        lower.setblocking(False)
        self.sock.close()
        self.sock = lower


class Hall:
    """All that wait. Pure state.

    A program says all it has to say at once: one that has been here for long and is silent
    is the last that will ever register.
    """

    def __init__(self) -> None:
        # In order of arrival.
        self._of_uid: dict[int, dict[HalfOpen, None]] = {}

    def add(self, half: HalfOpen) -> None:
        self._of_uid.setdefault(half.peer.uid, {})[half] = None

    def discard(self, half: HalfOpen) -> None:
        """Let one go; nothing if it has gone."""
        mine = self._of_uid.get(half.peer.uid, {})
        mine.pop(half, None)
        if not mine:
            self._of_uid.pop(half.peer.uid, None)

    def of_uid(self, uid: int) -> tuple[HalfOpen, ...]:
        """Return a uid's, in order of arrival."""
        return tuple(self._of_uid.get(uid, ()))

    def everybody(self) -> tuple[HalfOpen, ...]:
        return tuple(half for halves in self._of_uid.values() for half in halves)

    def last_to_register(self, uid: int) -> HalfOpen | None:
        """Return the one of a uid that has been silent for longest, else the oldest."""
        mine = self.of_uid(uid)
        return next((half for half in mine if half.registration is None), mine[0] if mine else None)

    def longest_silent(self) -> HalfOpen | None:
        """Return the one silent for longest in the biggest crowd; None if there is no crowd.

        A few that are silent are programs between their connection and their first word.
        """
        silent = [
            [half for half in halves if half.registration is None]
            for halves in self._of_uid.values()
        ]
        most = max(silent, key=len, default=[])
        return most[0] if len(most) >= CROWD else None
