# SPDX-License-Identifier: MIT
"""Sleeping until something concerns us: a wait word, a socket, or a call from this process.

While there is no registry nothing ticks: the kernel wakes us when a word is woken.
"""

from __future__ import annotations

import errno
import os
import select

from ustconsumer._native import atomics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ustconsumer.tracer.inotify import Watch
    from ustconsumer.tracer.rendezvous import WaitWord

__all__ = ["Alarm", "Words"]


class Alarm:
    """Wakes our thread, whether it sleeps on words or on sockets."""

    def __init__(self) -> None:
        # Of this process alone: a mapping would be shared with forked children.
        self.memory = bytearray(4)
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ring(self) -> None:
        """Wake the thread; if it does not sleep now, it will not next time."""
        atomics.store_u32(self.memory, 0, 1)
        atomics.futex_wake(self.memory, 0, 1)
        os.eventfd_write(self.fd, 1)

    def silence(self) -> None:
        """Take note of every ring so far; look at what it was about only after this."""
        # The word first: a ring between the two leaves it at 1, and nobody sleeps on that.
        atomics.store_u32(self.memory, 0, 0)
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Let go of it; in a forked child without waking the parent's thread."""
        os.close(self.fd)


class Words:
    """Waits for wait words while no socket is open.

    Attributes
    ----------
    together : bool
        The kernel can wait for several words (Linux 5.16). Before, the files of the words
        are watched: whoever is going to change one opens it.
    """

    def __init__(self) -> None:
        self.together = True
        self._watch: Watch | None = None

    def wait(
        self, alarm: Alarm, words: list[tuple[WaitWord, int]], timeout: float | None
    ) -> WaitWord | None:
        """Sleep until a word is woken or is not what it was, or the alarm rings.

        Parameters
        ----------
        words : list of (WaitWord, int)
            Each with its value.
        timeout : float, optional
            In seconds.

        Returns
        -------
        WaitWord or None
            The one that was woken, if it is known.
        """
        if self.together:
            try:
                return self._wait_together(alarm, words, timeout)
            except OSError as error:
                # EFAULT: one of the files became shorter, which its word shows below.
                if error.errno != errno.EFAULT:
                    self.together = False
        return self._wait_watching(alarm, words, timeout)

    def _wait_together(
        self, alarm: Alarm, words: list[tuple[WaitWord, int]], timeout: float | None
    ) -> WaitWord | None:
        waits: list[tuple[object, int, int]] = [(alarm.memory, 0, 0)]
        waits += [(word.memory, 0, value) for word, value in words]
        nanoseconds = -1 if timeout is None else max(0, int(timeout * 1e9))
        woken = atomics.futex_wait_any(waits, nanoseconds)  # type: ignore[arg-type]
        return words[woken - 1][0] if woken > 0 else None

    def _wait_watching(
        self, alarm: Alarm, words: list[tuple[WaitWord, int]], timeout: float | None
    ) -> WaitWord | None:
        from ustconsumer.tracer.inotify import Watch

        if self._watch is None:
            self._watch = Watch()
        watch = self._watch
        watch.follow([word.path for word, _ in words])
        poll = select.poll()
        poll.register(alarm.fd, select.POLLIN)
        if watch.fd >= 0:
            poll.register(watch.fd, select.POLLIN)
        pause = watch.pause()
        if pause is not None:
            timeout = pause if timeout is None else min(pause, timeout)
        # A word that changed before it was followed is seen here.
        if any(word.value() != value for word, value in words):
            return None
        for fd, _ in poll.poll(None if timeout is None else int(timeout * 1000) + 1):
            if fd == watch.fd:
                watch.noticed()
        return None

    def close(self) -> None:
        """Let go of what was opened."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
