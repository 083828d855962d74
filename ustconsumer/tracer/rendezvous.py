# SPDX-License-Identifier: MIT
"""Where a program meets a registry: a socket, and a word to sleep on until one listens.

Both places of every user are watched at once: the global registry's and the user's own.
"""

from __future__ import annotations

import mmap
import os

from ustconsumer.paths import APPS_SOCKET, GLOBAL_RUNDIR, wait_word_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_TIMEOUT", "Place", "WaitWord", "places", "register_timeout"]

_SIZE = 4096
_WORD = 4

#: Seconds that a program waits for its registration.
DEFAULT_TIMEOUT = 3.0


class WaitWord:
    """A word that is 1 while a registry listens, in a file of liblttng-ust's.

    Made where it is missing, as the first traced program of a machine does; never
    written, never removed.

    Parameters
    ----------
    path : str
    everybody : bool
        The global one: any user may make it, and it is everybody's to write.

    Raises
    ------
    OSError
        It cannot be had, or is another user's: nobody could tell us anything through it.

    Notes
    -----
    Who owns the file can shorten it at any time, and a load behind its end would kill the
    program. So the word is read as a file; only the kernel looks at the mapping.
    """

    def __init__(self, path: str, everybody: bool) -> None:
        self.path = path
        self._fd = _open(path, 0o666 if everybody else 0o640)
        try:
            if not everybody and os.fstat(self._fd).st_uid != os.getuid():
                raise PermissionError(f"{path} is another user's")
            if self.value() is None:
                raise OSError(f"{path} has no word")
            self.memory = mmap.mmap(self._fd, _SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
        except BaseException:
            os.close(self._fd)
            raise

    def value(self) -> int | None:
        """Return the word; None if the file has lost it."""
        raw = os.pread(self._fd, _WORD, 0)
        return int.from_bytes(raw, "little") if len(raw) == _WORD else None

    def close(self) -> None:
        """Let go of it."""
        self.memory.close()
        os.close(self._fd)


def _open(path: str, mode: int) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, os.O_RDONLY | flags)
        if os.fstat(fd).st_size >= _SIZE:
            return fd
        # Who made it has not come to lengthen it yet, or never will.
        os.close(fd)
        fd = os.open(path, os.O_RDWR | flags)
        made = False
    except FileNotFoundError:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, mode)
            made = True
        except FileExistsError:
            # Another program was faster: whoever comes second lengthens it as well.
            fd = os.open(path, os.O_RDWR | flags)
            made = False
    try:
        if made:
            os.fchmod(fd, mode)  # whatever the program's umask is
        if os.fstat(fd).st_size < _SIZE:
            os.ftruncate(fd, _SIZE)
        return os.open(path, os.O_RDONLY | flags)
    finally:
        os.close(fd)


class Place:
    """Where one registry may be.

    Attributes
    ----------
    rundir : str
    word : WaitWord or None
        None: nothing tells when a registry comes.
    """

    def __init__(self, rundir: str, word_path: str | None = None, everybody: bool = False) -> None:
        self.rundir = rundir
        self.word: WaitWord | None = None
        if word_path is not None:
            try:
                self.word = WaitWord(word_path, everybody)
            except OSError:
                self.word = None

    @property
    def socket_path(self) -> str:
        """Where the registry listens for applications."""
        return os.path.join(self.rundir, APPS_SOCKET)

    def __repr__(self) -> str:
        return f"Place({self.rundir!r})"


def places(env: Mapping[str, str] = os.environ) -> list[Place]:
    """Return the places of this process: the global one, and its user's unless it is set-uid."""
    found = [Place(GLOBAL_RUNDIR, wait_word_path(None), everybody=True)]
    if os.getuid() == os.geteuid() and os.getgid() == os.getegid():
        home = env.get("LTTNG_HOME") or env.get("HOME")
        if home:
            rundir = os.path.join(home, ".lttng")
            found.append(Place(rundir, wait_word_path(os.getuid())))
    return found


def register_timeout(env: Mapping[str, str] = os.environ) -> float | None:
    """Return how many seconds to wait for a registration, None for ever."""
    try:
        milliseconds = int(env.get("LTTNG_UST_REGISTER_TIMEOUT", ""))
    except ValueError:
        return DEFAULT_TIMEOUT
    return None if milliseconds < 0 else milliseconds / 1000
