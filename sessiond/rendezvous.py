# SPDX-License-Identifier: MIT
"""The run directory: lock, sockets, and the neighbour that may already be there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from sessiond.sockets import peer_of
from ustconsumer.errors import UsageError
from ustconsumer.paths import APPS_SOCKET, CONTROL_SOCKET, GLOBAL_RUNDIR, LTTNG_LOCK, LTTNG_PID

__all__ = ["Rendezvous"]

#: Where a real lttng-sessiond listens for its clients; ours never does.
_LTTNG_CLIENTS = "client-lttng-sessiond"
_FLOCK = struct.Struct("hhqqi4x")


class Rendezvous:
    """Everything a registry leaves in its run directory.

    Parameters
    ----------
    rundir : Path
        Created if missing: 0700, or 0755 and of the group for the global one.
    group : str
        Owns the control socket of the global registry.
    inherited : mapping, optional
        Sockets that listen here already, by the name of their file: of the service
        manager, which made the files and removes them.

    Notes
    -----
    The lock is both a POSIX lock and a flock: which of the two lttng-sessiond takes is
    decided when it is built (Debian's takes the POSIX one). A POSIX lock is not
    inherited by children and is lost when the process closes *any* descriptor of the
    file, so it is opened once and only here.
    """

    def __init__(
        self,
        rundir: Path,
        group: str,
        inherited: Mapping[str, socket.socket] = MappingProxyType({}),
    ) -> None:
        self.rundir = rundir
        self.everybody = os.geteuid() == 0 and rundir.resolve() == Path(GLOBAL_RUNDIR).resolve()
        self._group = group
        self._inherited = inherited
        self._lock = -1
        self._bound: list[tuple[Path, int]] = []

    @property
    def inherited(self) -> list[int]:
        """Descriptors of the service manager's sockets."""
        return [sock.fileno() for sock in self._inherited.values()]

    def check_alone(self) -> None:
        """Look for a live daemon without touching anything.

        Raises
        ------
        UsageError
            There is one; the text names it.
        """
        for name in (APPS_SOCKET, _LTTNG_CLIENTS, CONTROL_SOCKET):
            if name in self._inherited:
                continue
            pid = _listener(self.rundir / name)
            if pid is not None:
                self._refuse(pid, self.rundir / name)

    def take(self) -> tuple[socket.socket, socket.socket]:
        """Take the lock and listen; return the applications' and the control socket.

        Raises
        ------
        UsageError
            A live daemon is there, or the directory is not ours to use.
        """
        self._prepare()
        try:
            self._take_lock()
            self.check_alone()
            apps = self._listen(APPS_SOCKET, 0o666)
            mode = 0o660 if self.everybody else 0o600
            try:
                control = self._listen(CONTROL_SOCKET, mode)
            except BaseException:
                apps.close()
                raise
            if (
                self.everybody
                and CONTROL_SOCKET not in self._inherited
                and (gid := self._gid()) is not None
            ):
                os.chown(self.rundir / CONTROL_SOCKET, 0, gid)
        except OSError as error:
            self.leave()
            raise UsageError(
                f"cannot listen in {self.rundir} ({error.strerror or error}): "
                "choose another --rundir"
            ) from None
        except BaseException:
            self.leave()
            raise
        return apps, control

    def leave(self) -> None:
        """Remove our sockets and the lock, if they are still ours."""
        for path, inode in self._bound:
            # Another's socket may have taken the name since: that one stays.
            with contextlib.suppress(OSError):
                if os.lstat(path).st_ino == inode:
                    os.unlink(path)
        self._bound.clear()
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self.rundir / LTTNG_LOCK)
            os.close(self._lock)
            self._lock = -1

    def _gid(self) -> int | None:
        try:
            return grp.getgrnam(self._group).gr_gid
        except KeyError:
            return None

    def _prepare(self) -> None:
        try:
            self.rundir.mkdir(parents=True, mode=0o755 if self.everybody else 0o700)
            if self.everybody and (gid := self._gid()) is not None:
                os.chown(self.rundir, 0, gid)
        except FileExistsError:
            pass
        except OSError as error:
            raise UsageError(f"cannot create {self.rundir}: {error.strerror}") from None
        status = os.stat(self.rundir)
        if not stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{self.rundir} is not a directory: choose another --rundir")
        if status.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
            raise UsageError(f"{self.rundir} belongs to uid {status.st_uid}: choose another")

    def _take_lock(self) -> None:
        path = self.rundir / LTTNG_LOCK
        while True:
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = _lock_holder(fd)
                os.close(fd)
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                self._refuse(holder, path)
            # The last holder may have unlinked the file between our open and our lock.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(fd).st_ino == os.stat(path).st_ino:
                    self._lock = fd
                    return
            os.close(fd)

    def _refuse(self, pid: int, where: Path) -> None:
        if not pid:
            for name in (APPS_SOCKET, CONTROL_SOCKET):
                pid = pid or _listener(self.rundir / name) or 0
        if not pid:
            with contextlib.suppress(OSError, ValueError):
                pid = int((self.rundir / LTTNG_PID).read_text(encoding="ascii"))
        name = "a session daemon"
        with contextlib.suppress(OSError):
            raw = Path(f"/proc/{pid}/comm").read_bytes()
            name = raw.decode(errors="replace").strip()
        who = f"{name} (pid {pid})" if pid else name
        raise UsageError(f"{who} is alive and holds {where}: stop it, or choose another --rundir")

    def _listen(self, name: str, mode: int) -> socket.socket:
        if name in self._inherited:
            return self._inherited[name]
        path = self.rundir / name
        with contextlib.suppress(FileNotFoundError):
            # Nobody listens (check_alone): what a dead daemon left.
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise UsageError(f"{path} is in the way and no socket: move it")
            os.unlink(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Nobody gets in between bind and chmod: the mode is only widened.
            before = os.umask(0o177)
            try:
                sock.bind(str(path))
            finally:
                os.umask(before)
            self._bound.append((path, os.lstat(path).st_ino))
            os.chmod(path, mode)
            sock.setblocking(False)
            sock.listen(1024)
        except BaseException:
            sock.close()
            raise
        return sock


def _listener(path: Path) -> int | None:
    """Return the pid of whoever listens on a socket; 0 if hidden, None if nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(str(path))
        except BlockingIOError:
            return 0  # its backlog is full: alive, or at least there
        except OSError:
            return None
        return peer_of(sock).pid


def _lock_holder(fd: int) -> int:
    """Return the pid that holds the POSIX lock of a file, 0 if none."""
    with contextlib.suppress(OSError):
        ask = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, ask))
        if kind != fcntl.F_UNLCK:
            return int(pid)
    return 0
