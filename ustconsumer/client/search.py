# SPDX-License-Identifier: MIT
"""Where a registry may listen, and why there is none, without I/O of its own."""

from __future__ import annotations

import errno
import os
import socket
import struct

from ustconsumer.errors import BrokenResourceError, CommandError, RemoteProtocolError
from ustconsumer.paths import CONTROL_SOCKET, GLOBAL_RUNDIR, default_rundir

__all__ = ["Search", "rundirs"]

_START_ONE = "start one with `drtrace create`"
_ELSEWHERE = "choose another directory with --rundir"
_UCRED = struct.Struct("iII")


def rundirs(override: str | None = None) -> list[str]:
    """Return the run directories to look for a registry in, best first.

    An ordinary user prefers the global registry, but only if it answers: a
    directory that exists says nothing.
    """
    own = default_rundir(override)
    if override or os.environ.get("LTTNG_UST_CTL_PATH") or own == GLOBAL_RUNDIR:
        return [own]
    return [GLOBAL_RUNDIR, own]


class Search:
    """A search for the registry that serves this user.

    A connection tries each of ``paths``, says what was wrong with it, and raises `failure` when
    it has tried all. Nothing is said to who runs as neither root nor this user; root, who
    names the directory, says it to anybody.

    Parameters
    ----------
    rundir : path, optional
        The only one to try.
    """

    def __init__(self, rundir: str | os.PathLike[str] | None = None) -> None:
        places = rundirs(None if rundir is None else os.fspath(rundir))
        #: of the sockets, best first
        self.paths = [os.path.join(place, CONTROL_SOCKET) for place in places]
        self._why = ""
        self._advice = _START_ONE

    def unreachable(self, error: OSError) -> None:
        """Note that nobody could be connected to."""
        # AF_UNIX path too long is an OSError without errno.
        self._why = error.strerror or str(error)
        nobody = error.errno in (errno.ENOENT, errno.ECONNREFUSED)
        self._advice = _START_ONE if nobody else _ELSEWHERE

    def trusted(self, sock: socket.socket) -> bool:
        """Return whether to speak to who listens; if not, note why."""
        uid = _peer_uid(sock)
        if os.geteuid() in (0, uid) or not uid:
            return True
        self._why = f"uid {uid} listens there, neither root nor you"
        self._advice = _ELSEWHERE
        return False

    def unwanted(
        self, path: str, error: BrokenResourceError | RemoteProtocolError | CommandError
    ) -> None:
        """Note that the registry does not want us; raise ``error`` if that is all there is to say.

        One that does not want us is not the one that serves us.
        """
        refused = isinstance(error, CommandError) and error.kind != "permission"
        if path == self.paths[-1] or refused:
            raise error
        self._why = str(error)

    def failure(self) -> BrokenResourceError:
        """Return why there is none, and what to do."""
        return BrokenResourceError(
            f"no session registry at {self.paths[-1]} ({self._why}): {self._advice}"
        )


def _peer_uid(sock: socket.socket) -> int:
    """Return who listens, as the kernel noted it when it began to."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    uid: int = _UCRED.unpack(raw)[1]
    return uid
