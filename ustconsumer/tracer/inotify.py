# SPDX-License-Identifier: MIT
"""Noticing that a wait word may change, on kernels that cannot wait for two (before 5.16).

A registry opens the file of its wait word just before it writes the word. Other traced
programs open it too: after each opening the word is looked at some times, then no more.
So it is at the beginning: a registry may have opened the file just before it was followed.
"""

from __future__ import annotations

import os

__all__ = ["Watch"]

_OPEN, _ATTRIB, _MODIFY = 0x20, 0x4, 0x2
#: Seconds between looks at the words after one was opened.
_PAUSES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
#: Where nothing can be noticed (limit of instances): look at the words now and then.
_BLIND_PAUSE = 2.0


class Watch:
    """Follows files.

    Attributes
    ----------
    fd : int
        Readable when one was opened; negative if the kernel gives us none.
    """

    def __init__(self) -> None:
        self.fd = -1
        try:
            import ctypes

            libc = ctypes.CDLL(None)
            self._add = libc.inotify_add_watch
            self.fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        except (ImportError, OSError, AttributeError):
            pass  # a Python without ctypes, or a C library without inotify
        self._paths: set[str] = set()
        self._looks = len(_PAUSES)

    def follow(self, paths: list[str]) -> None:
        """Follow these files too; those followed before stay."""
        for path in paths:
            if self.fd < 0 or path in self._paths:
                continue
            self._paths.add(path)
            self._looks = 0
            if self._add(self.fd, os.fsencode(path), _OPEN | _ATTRIB | _MODIFY) < 0:
                self.close()

    def noticed(self) -> None:
        """Take note of what happened to the files."""
        try:
            while os.read(self.fd, 4096):
                pass
        except OSError:
            pass
        self._looks = 0

    def pause(self) -> float | None:
        """Return in how many seconds to look at the words again, None not before something."""
        if self.fd < 0:
            return _BLIND_PAUSE
        if self._looks == len(_PAUSES):
            return None
        self._looks += 1
        return _PAUSES[self._looks - 1]

    def close(self) -> None:
        """Let go of it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
