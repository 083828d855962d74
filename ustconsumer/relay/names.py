# SPDX-License-Identifier: MIT
"""Names from the network, and the directories below which they stay."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from ustconsumer.errors import RemoteProtocolError

__all__ = ["Directory", "check_name", "split_path", "split_stream_path"]

#: LTTng's mode, before the umask.
_MODE = 0o770
_FILE_MODE = 0o660
#: Bytes of a name in every file system.
_MAX = 255
_MAX_DEPTH = 32


def check_name(name: str, what: str) -> str:
    """Return a name that can be one step of a path.

    Raises
    ------
    RemoteProtocolError
        Empty, hidden, too long, with a slash or with what cannot be printed.
    """
    size = len(name.encode(errors="surrogateescape"))
    if not name or size > _MAX or name.startswith(".") or "/" in name or not name.isprintable():
        raise RemoteProtocolError(f"{what} {name[:64]!r} ({size} bytes) cannot be a name of a file")
    return name


def split_path(path: str, what: str) -> tuple[str, ...]:
    """Return the steps of a path, each of them checked; a leading slash means nothing."""
    return _checked([check_name(step, what) for step in path.split("/") if step], what)


def split_stream_path(path: str, what: str) -> tuple[str, ...]:
    """Return the steps of a path that may have the name of a program in it.

    Programs are called what they like: hidden names are taken, and what cannot be printed
    is replaced.
    """
    steps = []
    for step in path.split("/"):
        if step in (".", "..") or len(step.encode()) > _MAX:
            raise RemoteProtocolError(f"{what}: {step[:64]!r} cannot be a name of a file")
        if step:
            steps.append("".join(each if each.isprintable() else "_" for each in step))
    return _checked(steps, what)


def _checked(steps: Sequence[str], what: str) -> tuple[str, ...]:
    if len(steps) > _MAX_DEPTH:
        raise RemoteProtocolError(f"{what}: {len(steps)} directories, at most {_MAX_DEPTH}")
    return tuple(steps)


class Directory:
    """An open directory: what is below it is found step by step, never through a link.

    Parameters
    ----------
    fd : int
        Owned from now on.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def at(cls, path: Path) -> Directory:
        """Open a directory of our own choice, made if it is not there."""
        path.mkdir(mode=_MODE, parents=True, exist_ok=True)
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def open(self, steps: Sequence[str], *, create: bool = True) -> Directory:
        """Open a directory below, made with those on the way.

        Raises
        ------
        OSError
            One of them is no directory, or a link.
        """
        fd = os.dup(self._fd)
        for step in steps:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(step, _MODE, dir_fd=fd)
            try:
                below = os.open(
                    step,
                    os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                    dir_fd=fd,
                )
            finally:
                os.close(fd)
            fd = below
        return Directory(fd)

    def become(self, other: Directory) -> None:
        """Be another directory from now on, for all who have this one."""
        self.close()
        self._fd = os.dup(other._fd)

    def make(self, step: str) -> bool:
        """Make a directory; return False if there is something of that name."""
        try:
            os.mkdir(step, _MODE, dir_fd=self._fd)
        except FileExistsError:
            return False
        return True

    def open_file(self, name: str, *, new: bool = False) -> int:
        """Open a file for reading and writing; ``new``: it must not be there.

        Raises
        ------
        OSError
            It is a link, or there and should not be.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(name, flags | (os.O_EXCL if new else 0), _FILE_MODE, dir_fd=self._fd)

    def exists(self, name: str) -> bool:
        """Return whether there is something of this name."""
        try:
            os.lstat(name, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        return True

    def names(self) -> list[str]:
        """Return what is in it."""
        return sorted(os.listdir(self._fd))

    def rename(self, name: str, to: Directory, new: str) -> None:
        """Move something to another directory."""
        os.rename(name, new, src_dir_fd=self._fd, dst_dir_fd=to._fd)

    def unlink(self, name: str) -> None:
        """Remove a file; no matter if it is not there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def remove_tree(self, name: str) -> None:
        """Remove a directory with all that is in it, or a file."""
        try:
            below = self.open((name,), create=False)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            self.unlink(name)
            return
        with below:
            for each in below.names():
                below.remove_tree(each)
        os.rmdir(name, dir_fd=self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()
