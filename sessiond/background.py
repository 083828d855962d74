# SPDX-License-Identifier: MIT
"""Going to the background, and the file that says who is there."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ustconsumer.errors import UsageError

__all__ = ["READY", "go_to_background", "pid_file"]

#: What goes to who waits for us when the sockets listen.
READY = b"\n"


def go_to_background(keep_output: bool = False) -> int:
    """Fork; return where to say `READY`, or in a line why not.

    The foreground process stays until then: it passes the line on and exits.

    Parameters
    ----------
    keep_output : bool
        Keep standard output and error: a shell that captures them waits for us. Else we
        keep nothing of its terminal or pipes, nor do our children.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        said = os.read(reading, 4096)
        if said != READY:
            sys.stderr.write(said.decode(errors="replace") or "ltt-sessiond: died at its start\n")
            sys.stderr.flush()
        os._exit(said != READY)
    os.close(reading)
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0,) if keep_output else (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
    os.chdir("/")
    return writing


@contextlib.contextmanager
def pid_file(path: Path) -> Iterator[None]:
    """Have our pid in a file for the time of the block.

    Raises
    ------
    UsageError
        It cannot be written, or what is there is no such file.
    """
    ours = f"{os.getpid()}\n".encode()
    # Whoever reads it sees a whole one: a file of that name appears, it does not grow.
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > 32 or not path.read_bytes().strip().isdigit():
                raise UsageError(f"{path} is no pid file: choose another --pidfile")
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.fchmod(fd, 0o644)
            os.write(fd, ours)
            inode = os.fstat(fd).st_ino
        finally:
            os.close(fd)
        try:
            new.rename(path)
        except OSError:
            new.unlink()
            raise
    except OSError as error:
        raise UsageError(
            f"cannot write {path} ({error.strerror}): choose another --pidfile"
        ) from None
    try:
        yield
    finally:
        # Another's may have taken the name since: that one stays.
        with contextlib.suppress(OSError):
            if path.stat().st_ino == inode and path.read_bytes() == ours:
                path.unlink()
