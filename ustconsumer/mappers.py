# SPDX-License-Identifier: MIT
"""Which processes have a file mapped for writing, as the kernel tells it."""

from __future__ import annotations

import os
from collections.abc import Iterable

__all__ = ["writers_of"]

#: dev and inode, as in ``os.stat_result``
_File = tuple[int, int]


def writers_of(fds: Iterable[int]) -> dict[_File, set[int]]:
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
    wanted: dict[bytes, _File] = {}
    for fd in fds:
        try:
            status = os.fstat(fd)
        except OSError:
            continue
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        wanted[f"{device} {status.st_ino}".encode()] = status.st_dev, status.st_ino
    found: dict[_File, set[int]] = {}
    if wanted:
        for name in os.listdir("/proc"):
            if name.isdecimal():
                for file in _mapped(name, wanted):
                    found.setdefault(file, set()).add(int(name))
    return found


def _mapped(pid: str, wanted: dict[bytes, _File]) -> set[_File]:
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
