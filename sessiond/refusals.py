# SPDX-License-Identifier: MIT
"""Programs that the registry did not take, and why: lines of ``drtrace apps``."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sessiond.sockets import Peer
from ustconsumer.protocol.application import Registration
from ustconsumer.protocol.control import AppInfo

__all__ = ["Refusals"]

_log = logging.getLogger("sessiond")

#: Remembered at a time; the oldest go first.
_MAX_REFUSED = 256
#: How long one is shown whose end cannot be seen from here.
_HIDDEN_SECONDS = 600.0


class _Key(NamedTuple):
    """Who was refused. The pid is 0 for a hidden one: told apart by what it says of itself."""

    pid: int
    uid: int
    claimed: int


class Refusals:
    """Remembers refused programs for as long as they live."""

    def __init__(self) -> None:
        self._known: dict[_Key, tuple[AppInfo, float]] = {}

    def note(self, peer: Peer, registration: Registration | None, reason: str) -> None:
        """Remember a refusal; log the first one of a program.

        Parameters
        ----------
        registration : Registration or None
            What it said of itself, if it came to that.
        """
        info = _describe(peer, registration, reason)
        key = _key(peer, registration)
        if key not in self._known:
            _log.warning("application %r (pid %d) refused: %s", info.name, peer.pid, reason)
        while len(self._known) >= _MAX_REFUSED:
            del self._known[next(iter(self._known))]
        self._known[key] = info, time.monotonic()

    def forget(self, peer: Peer, registration: Registration | None = None) -> None:
        """Forget a program that was taken after all."""
        self._known.pop(_key(peer, registration), None)

    def living(self) -> Iterator[AppInfo]:
        """Yield the refused programs that live."""
        for key, (info, since) in tuple(self._known.items()):
            if key.pid:
                lives = Path(f"/proc/{key.pid}").exists()
            else:
                lives = time.monotonic() - since < _HIDDEN_SECONDS
            if lives:
                yield info
            else:
                del self._known[key]


def _key(peer: Peer, registration: Registration | None) -> _Key:
    claimed = registration.pid if registration is not None and not peer.pid else 0
    return _Key(peer.pid, peer.uid, claimed)


def _describe(peer: Peer, registration: Registration | None, reason: str) -> AppInfo:
    if registration is None:
        name, abi, bits, ppid = _name_of(peer.pid), "-", 0, 0
    else:
        name, bits = registration.name, registration.bits_per_long
        abi = f"{registration.major}.{registration.minor}"
        ppid = registration.ppid if registration.pid == peer.pid else 0
    return AppInfo(
        pid=peer.pid,
        ppid=ppid,
        uid=peer.uid,
        gid=peer.gid,
        name=name,
        abi=abi,
        bits=bits,
        tracer="",
        state="refused",
        sessions=[],
        reason=reason,
    )


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_bytes().decode(errors="replace").rstrip("\n")
    except OSError:
        return "?"
