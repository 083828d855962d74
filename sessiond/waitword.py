# SPDX-License-Identifier: MIT
"""The word applications sleep on while there is no registry.

It is per uid, not per home, and belongs to liblttng-ust: created and written here,
never unlinked. Only a lasting registry touches it.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from ustconsumer._native import atomics
from ustconsumer.errors import UsageError

__all__ = ["WaitWord"]

_SIZE = 4096
_EVERYBODY = 0x7FFFFFFF


class WaitWord:
    """The wait word of one uid's applications, or of all.

    Parameters
    ----------
    path : Path
        From `ustconsumer.paths.wait_word_path`.
    everybody : bool
        The global word, which every uid reads.

    Raises
    ------
    UsageError
        The file is another user's: applications would not listen to it.
    """

    def __init__(self, path: Path, everybody: bool) -> None:
        fd = _open(path)
        try:
            status = os.fstat(fd)
            if status.st_uid != os.geteuid() and os.geteuid() != 0:
                raise UsageError(
                    f"{path} belongs to uid {status.st_uid}: running programs will not notice "
                    "this registry, start them after it"
                )
            if status.st_size < _SIZE:
                os.ftruncate(fd, _SIZE)
            if everybody:
                os.fchmod(fd, 0o664)
            self._word = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)

    def raise_(self) -> int:
        """Say that a registry listens; return the number of threads woken."""
        atomics.store_u32(self._word, 0, 1)
        return atomics.futex_wake(self._word, 0, _EVERYBODY)

    def reset(self) -> None:
        """Say that no registry listens, and let go of the word."""
        atomics.store_u32(self._word, 0, 0)
        self._word.close()


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_CREAT, 0o660)
    except PermissionError:
        # fs.protected_regular refuses O_CREAT on another's file in a sticky directory.
        return os.open(path, flags)
