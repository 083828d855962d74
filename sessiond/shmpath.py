# SPDX-License-Identifier: MIT
"""Buffers that are files (``--shm-path``): they outlive every process, and a reboot.

Files cannot be sealed: whoever may write them may also cut them off, and that is a SIGBUS
in every process that has them mapped. So they are for the registry's own uid only, mode
0600 in directories of mode 0700: nobody gets into this that could not signal us anyway.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import stat

from sessiond.names import check_output
from sessiond.registry import Session
from ustconsumer.errors import RingBufferError, UsageError
from ustconsumer.mappers import writers_of
from ustconsumer.ringbuffer.geometry import Geometry

__all__ = ["MetadataText", "SessionFiles", "TraceFiles"]

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ZEROS = bytes(1 << 20)
#: As LTTng: an automatic name has its date already.
_DATED = re.compile(r"auto-\d{8}-\d{6}")


def _make_directory(name: str, parent: int | None = None, *, new: bool = False) -> int:
    """Make a directory, unless it may be there already; return a descriptor of it.

    Raises
    ------
    OSError
        Also if it is not ours, or a symbolic link.
    """
    try:
        os.mkdir(name, _DIRECTORY_MODE, dir_fd=parent)
    except FileExistsError:
        if new:
            raise
    fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    if os.fstat(fd).st_uid != os.geteuid():
        os.close(fd)
        raise PermissionError(errno.EPERM, "it belongs to somebody else", name)
    return fd


def _open_base(path: str) -> int:
    """Open the directory that the user named; make what is missing of it."""
    missing = []
    while not os.path.lexists(path):
        path, name = os.path.split(path)
        missing.append(name)
    # What is there may be reached through links; what we make may not be replaced by them.
    fd = os.open(path, _DIRECTORY)
    for name in reversed(missing):
        try:
            below = _make_directory(name, fd)
        finally:
            os.close(fd)
        fd = below
    return fd


class SessionFiles:
    """The directory of a session's files, ``PATH/NAME-YYYYmmdd-HHMMSS``.

    Parameters
    ----------
    session : Session
        With a ``shm_path``.

    Raises
    ------
    UsageError
        The directory cannot be, or belongs to somebody else; the session does.
    """

    def __init__(self, session: Session) -> None:
        path = session.shm_path
        check_output(path)
        if session.uid != os.geteuid():
            raise UsageError(
                f"buffers in files are for uid {os.geteuid()} only, who runs the session daemon"
            )
        name = session.name
        if not _DATED.fullmatch(name):
            name += f"-{session.created:%Y%m%d-%H%M%S}"
        try:
            self._base = _open_base(os.path.normpath(path))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}: choose another directory") from None
        try:
            self._own_base(path)
            self.name, self._fd = self._make(name)
        except OSError as error:
            os.close(self._base)
            raise UsageError(f"{path}/{name}: {error.strerror}") from None
        except BaseException:
            os.close(self._base)
            raise
        self.path = os.path.join(os.path.normpath(path), self.name)
        self._checked = False
        self._traces: set[TraceFiles] = set()
        self._closed = False

    def _own_base(self, path: str) -> None:
        status = os.fstat(self._base)
        if status.st_uid != os.geteuid():
            raise UsageError(
                f"{path} belongs to uid {status.st_uid}: choose a directory of your own for the "
                "buffers, or one that is not there yet"
            )
        if stat.S_IMODE(status.st_mode) & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            raise UsageError(f"{path} can be changed by everybody: choose another directory")

    def _make(self, first: str) -> tuple[str, int]:
        number, name = 1, first
        while True:
            try:
                return name, _make_directory(name, self._base, new=True)
            except FileExistsError:
                # A session of this name that was destroyed, or killed, within the second.
                number += 1
                name = f"{first}-{number}"

    def trace(self, path: str) -> TraceFiles:
        """Make the directory of a trace; raises `OSError`."""
        fd = os.dup(self._fd)
        try:
            for part in path.split("/"):
                below = _make_directory(part, fd)
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        made = TraceFiles(self, path, fd)
        self._traces.add(made)
        return made

    def check_mappings(self, fd: int) -> None:
        """Raise `RingBufferError` where nobody can be found out who has a file mapped.

        Packets of killed programs are repaired when no other has the buffers: a file system
        that shows other numbers in ``/proc/PID/maps`` would have us repair under a writer.
        """
        if self._checked:
            return
        with mmap.mmap(fd, mmap.PAGESIZE):
            found = writers_of([fd])
        if not any(os.getpid() in pids for pids in found.values()):
            raise RingBufferError(
                "the file system does not tell who has a file mapped: choose another directory "
                "for the buffers, in /dev/shm for instance"
            )
        self._checked = True

    def close(self) -> None:
        """Remove the directory, now or with its last trace."""
        self._closed = True
        self._collect()

    def removed(self, trace: TraceFiles, path: str) -> None:
        """Remove the directories of a trace whose files are gone."""
        self._traces.discard(trace)
        while path:
            with contextlib.suppress(OSError):
                os.rmdir(path, dir_fd=self._fd)
            path = os.path.dirname(path)
        self._collect()

    def _collect(self) -> None:
        if self._closed and not self._traces and self._fd >= 0:
            with contextlib.suppress(OSError):
                os.rmdir(self.name, dir_fd=self._base)
            os.close(self._fd)
            os.close(self._base)
            self._fd = self._base = -1


class TraceFiles:
    """The files of one trace: a buffer for each stream, and ``metadata``."""

    def __init__(self, session: SessionFiles, path: str, fd: int) -> None:
        self._session = session
        self._path = path
        self._fd = fd
        self._names: list[str] = []

    def create_memory(self, geometry: Geometry, name: str) -> int:
        """Return a descriptor of a new file for one stream, zeros, fully allocated.

        Raises
        ------
        RingBufferError
            The file system has no room for it, or cannot have such files.
        """
        fd = -1
        try:
            fd = self._create(name)
            # Every block now, or an error here: later it is a SIGBUS in the application.
            at = 0
            while at < geometry.file_size:
                at += os.pwrite(fd, _ZEROS[: geometry.file_size - at], at)
            _sync(fd)
            self._session.check_mappings(fd)
        except BaseException as error:
            if fd >= 0:
                os.close(fd)
            if isinstance(error, OSError):
                raise RingBufferError(
                    f"cannot make the file {self._path}/{name} of {geometry.file_size} bytes: "
                    f"{error.strerror}"
                ) from error
            raise
        return fd

    def metadata(self) -> MetadataText:
        """Make the metadata file; raises `OSError`."""
        return MetadataText(self._create("metadata"))

    def remove(self) -> None:
        """Remove the files; whoever has them open or mapped keeps them."""
        if self._fd < 0:
            return
        for name in self._names:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._fd)
        os.close(self._fd)
        self._fd = -1
        self._session.removed(self, self._path)

    def _create(self, name: str) -> int:
        fd = os.open(name, _NEW_FILE, _FILE_MODE, dir_fd=self._fd)
        self._names.append(name)
        return fd


def _sync(fd: int) -> None:
    """Have what was allocated late allocated now."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


class MetadataText:
    """Declarations as plain text, for whoever finds the buffers after a crash.

    Parameters
    ----------
    fd : int
        Of an empty file; owned.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._length = 0

    def append(self, text: str) -> None:
        """Append whole declarations, all or nothing; raises `OSError`."""
        raw = memoryview(text.encode())
        written = 0
        try:
            while written < len(raw):
                written += os.pwrite(self._fd, raw[written:], self._length + written)
        except OSError:
            os.ftruncate(self._fd, self._length)
            raise
        self._length += written

    def restart(self, text: str) -> None:
        """Start over with these declarations; raises `OSError`, with nothing changed."""
        raw = memoryview(text.encode())
        if len(raw) > self._length:
            # What there is no room for must be known before something is overwritten.
            os.posix_fallocate(self._fd, 0, len(raw))
        written = 0
        while written < len(raw):
            written += os.pwrite(self._fd, raw[written:], written)
        os.ftruncate(self._fd, len(raw))
        self._length = len(raw)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
