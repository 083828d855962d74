# SPDX-License-Identifier: MIT
"""Which processes have a file mapped for writing, as the kernel tells it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import TypeAlias

__all__ = ["File", "file_of", "writers_of", "writers_of_files"]

#: dev and inode, as in ``os.stat_result``
File: TypeAlias = tuple[int, int]


def file_of(fd: int) -> File:
    """Return what stays of a file's identity when the descriptor is closed."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def writers_of(fds: Iterable[int]) -> dict[File, set[int]]:
    """Return the processes that map files shared and writable.

    Parameters
    ----------
    fds : iterable of int
        Open descriptors of the files; a closed one counts as a file nobody maps.

    Returns
    -------
    dict
        From ``(st_dev, st_ino)`` to process ids; files that nobody maps are absent.
        Processes we may not look at, and those that end meanwhile, are passed over.

    Notes
    -----
    Source: ``/proc/PID/maps``, proc(5).
    """
    files = []
    for fd in fds:
        with contextlib.suppress(OSError):
            files.append(file_of(fd))
    return writers_of_files(files)


def writers_of_files(files: Iterable[File]) -> dict[File, set[int]]:
    """Return the processes that map files shared and writable, as `writers_of` does."""
    wanted: dict[bytes, File] = {}
    for device, inode in files:
        numbers = f"{os.major(device):02x}:{os.minor(device):02x} {inode}"
        wanted[numbers.encode()] = device, inode
    found: dict[File, set[int]] = {}
    if wanted:
        for name in os.listdir("/proc"):
            if name.isdecimal():
                for file in _mapped(name, wanted):
                    found.setdefault(file, set()).add(int(name))
    return found


def _mapped(pid: str, wanted: dict[bytes, File]) -> set[File]:
    try:
        with open(f"/proc/{pid}/maps", "rb") as maps:
            text = maps.read()
    except OSError:
        return set()
    files = set()
    for line in text.splitlines():
        # address permissions offset device inode name
        parts = line.split(None, 5)
        if len(parts) >= 5 and parts[1][1:4:2] == b"ws":
            file = wanted.get(parts[3] + b" " + parts[4])
            if file is not None:
                files.add(file)
    return files
