# SPDX-License-Identifier: MIT
"""Where session files are, and how they come and go."""

from __future__ import annotations

import contextlib
import os
import tempfile

from ustconsumer.client.saved import SavedSession
from ustconsumer.client.sessionreader import read_sessions
from ustconsumer.client.sessionwriter import write_session
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.paths import home

__all__ = ["read_saved", "sessions_directory", "write_saved"]

_SUFFIX = ".lttng"
#: LTTng's modes.
_FILE_MODE = 0o660
_DIRECTORY_MODE = 0o770


def sessions_directory() -> str:
    """Return where LTTng's session files are: ``~/.lttng/sessions``."""
    return os.path.join(home(), ".lttng", "sessions")


def write_saved(saved: SavedSession, directory: str, *, overwrite: bool = False) -> str:
    """Write the file of a session; return its path.

    Raises
    ------
    CommandError
        It is there already.
    OSError
        It cannot be written; what was there stays.
    """
    path = os.path.join(directory, f"{saved.name}{_SUFFIX}")
    if not overwrite and os.path.lexists(path):
        raise CommandError(f"Session file already exists: {path} (--force overwrites it)")
    text = write_session(saved)
    os.makedirs(directory, mode=_DIRECTORY_MODE, exist_ok=True)
    # Whole, or as it was before.
    fd, unfinished = tempfile.mkstemp(prefix=f".{saved.name[:100]}-", dir=directory)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(unfinished, _FILE_MODE & ~_umask())
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise
    return path


def read_saved(place: str, name: str | None = None) -> list[SavedSession]:
    """Return the sessions in a file, or in the session files of a directory.

    Parameters
    ----------
    name : str, optional
        Only the one of this name.

    Raises
    ------
    UsageError
        There is no such place, or a file is no session file: it names it.
    """
    if os.path.isdir(place):
        names = sorted(each for each in os.listdir(place) if each.endswith(_SUFFIX))
        wanted = f"{name}{_SUFFIX}"
        # Most files have the name of their session: the others need not be understood.
        paths = [os.path.join(place, each) for each in names if name is None or each == wanted]
        paths = paths or [os.path.join(place, each) for each in names]
    else:
        paths = [place]
    found = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                sessions = read_sessions(file.read((16 << 20) + 1))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        found += [each for each in sessions if name in (None, each.name)]
    return found


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
