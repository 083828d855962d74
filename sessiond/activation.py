# SPDX-License-Identifier: MIT
"""What a service manager (systemd) gives a service, and what it is told.

The two protocols are those of sd_listen_fds(3) and sd_notify(3): variables of the
environment and one datagram; no library is needed.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from ustconsumer.errors import UsageError
from ustconsumer.paths import APPS_SOCKET, CONTROL_SOCKET

__all__ = ["ServiceManager", "inherited_sockets"]

_log = logging.getLogger("sessiond")

_FIRST_FD = 3
#: FileDescriptorName= of a socket unit.
_NAMES = {"apps": APPS_SOCKET, "control": CONTROL_SOCKET}


class ServiceManager:
    """The one that started us, if one did: told when we are ready and when we stop.

    Takes its variables out of the environment: they are not for what we start.
    """

    def __init__(self, env: MutableMapping[str, str] = os.environ) -> None:
        self._address = env.pop("NOTIFY_SOCKET", "")
        self._listen = {
            name: env.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
        }

    def sockets(self, rundir: Path) -> dict[str, socket.socket]:
        """Return what it listens on for us, by the name of the file.

        Raises
        ------
        UsageError
            What it gave is not for a registry, or not for this run directory.
        """
        return dict(inherited_sockets(self._listen, rundir))

    def ready(self) -> None:
        """Say that the sockets listen."""
        self._notify(f"READY=1\nMAINPID={os.getpid()}\nSTATUS=Listening")

    def stopping(self) -> None:
        """Say that we finish what is being recorded, and end."""
        self._notify("STOPPING=1\nSTATUS=Writing what is left")

    def _notify(self, state: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        # An @ stands for the zero byte of a name in the abstract namespace.
        address = self._address.encode()
        if address[:1] == b"@":
            address = b"\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(state.encode(), address)
        except OSError as error:
            _log.warning("cannot tell the service manager: %s", error.strerror or error)


def inherited_sockets(
    listen: MutableMapping[str, str], rundir: Path, first: int = _FIRST_FD
) -> Iterator[tuple[str, socket.socket]]:
    """Yield the file's name and the socket for each that was passed to this process.

    Parameters
    ----------
    listen : mapping
        ``LISTEN_PID``, ``LISTEN_FDS``, ``LISTEN_FDNAMES``: for another process, nothing.
    first : int
        Number of the first descriptor.
    """
    try:
        if int(listen.get("LISTEN_PID") or 0) != os.getpid():
            return
        count = int(listen.get("LISTEN_FDS") or 0)
    except ValueError:
        raise UsageError("LISTEN_PID and LISTEN_FDS are no numbers: unset them") from None
    names = (listen.get("LISTEN_FDNAMES") or "").split(":")
    seen = set()
    for number in range(count):
        fd = first + number
        label = names[number] if number < len(names) else ""
        what = f"descriptor {fd} ({label or 'no name'}) of the service manager"
        path = _listens_at(fd, what)
        if path.name not in _NAMES.values():
            raise UsageError(
                f"{what} listens at {path}: a registry has {APPS_SOCKET} and {CONTROL_SOCKET}"
            )
        if _NAMES.get(label, path.name) != path.name:
            raise UsageError(f"{what} listens at {path}: its FileDescriptorName= is another's")
        if path.parent.resolve() != rundir.resolve():
            raise UsageError(f"{what} listens at {path}: give --rundir {path.parent}")
        if path.name in seen:
            raise UsageError(f"{what} is a second one at {path}: one is enough")
        seen.add(path.name)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        sock.set_inheritable(False)
        yield path.name, sock


def _listens_at(fd: int, what: str) -> Path:
    """Return where a descriptor listens; raises `UsageError` if it does not."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise UsageError(f"{what} is no socket")
        # Somebody else's, until it is found good.
        with socket.socket(fileno=os.dup(fd)) as sock:
            if (
                sock.family == socket.AF_UNIX
                and sock.type == socket.SOCK_STREAM
                and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            ):
                return Path(os.fsdecode(sock.getsockname() or "/"))
    except OSError as error:
        raise UsageError(f"{what} cannot be used: {error.strerror}") from None
    raise UsageError(f"{what} is no listening Unix stream socket: use ListenStream=/PATH")
