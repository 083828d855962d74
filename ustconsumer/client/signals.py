# SPDX-License-Identifier: MIT
"""What signals mean while a command is recorded."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import threading
from collections.abc import Collection, Iterator
from types import FrameType, TracebackType
from typing import Any

from ustconsumer.errors import UsageError

__all__ = ["CommandSignals", "become_subreaper"]

_PR_SET_CHILD_SUBREAPER = 36
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)
#: The terminal sends these to the command as well: it decides what they mean.
_LEFT_TO_COMMAND = (signal.SIGINT, signal.SIGQUIT)


def become_subreaper() -> None:
    """Adopt orphaned descendants, so that none outlives us unseen."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class CommandSignals:
    """Signal handlers of a process that runs one command.

    Before the command runs a signal unwinds (SystemExit 128 + n, KeyboardInterrupt);
    while it runs SIGTERM and SIGHUP are forwarded and the terminal's signals left to
    it; while others are waited for (`linger`) each says that it is enough; afterwards all
    are ignored, because what follows is bounded.
    A signal ignored from the start (``nohup``) stays ignored.

    Parameters
    ----------
    enabled : bool
        Whether handlers are installed at all; a library leaves its user's alone.
    requests : collection of int
        Signals that ask for something, whatever ``enabled`` says: each makes `requested`
        readable, and the command does not get it.

    Raises
    ------
    UsageError
        On entry: only the main thread can have signals with a meaning.
    """

    def __init__(self, enabled: bool, requests: Collection[int] = ()) -> None:
        self._enabled = enabled
        self._requests = tuple(requests)
        self._request_pipe: tuple[int, int] | None = None
        self._child: int | None = None
        self._ended = False
        self._lingering = False
        self._pipe: tuple[int, int] | None = None
        self._old: dict[int, Any] = {}

    def __enter__(self) -> CommandSignals:
        if self._requests:
            if threading.current_thread() is not threading.main_thread():
                raise UsageError("signals reach the main thread only: take snapshots on others")
            self._request_pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in self._requests:
            self._old[number] = signal.signal(number, self._note_request)
        for number in _FORWARDED if self._enabled else ():
            if number not in self._requests and signal.getsignal(number) != signal.SIG_IGN:
                self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)
        for fd in (*(self._pipe or ()), *(self._request_pipe or ())):
            os.close(fd)

    def spawn(self, path: str, argv: list[str], env: dict[str, str]) -> int:
        """Start the command with the dispositions we were started with; return its pid.

        Raises
        ------
        OSError
            It cannot be executed.
        """
        # Python ignores these two for itself.
        defaults: set[signal.Signals] = {signal.SIGPIPE, signal.SIGXFSZ}
        for number in _LEFT_TO_COMMAND if self._enabled else ():
            if signal.getsignal(number) != signal.SIG_IGN:
                self._old[number] = signal.signal(number, signal.SIG_IGN)
                defaults.add(number)
        # A signal that comes between the spawn and the next line must find the child.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (*_FORWARDED, *self._requests))
        ignored = [request for request in self._requests if self._old[request] == signal.SIG_IGN]
        try:
            # A handler becomes the default in the child. One that comes meanwhile is kept:
            # it is blocked.
            for request in ignored:
                signal.signal(request, signal.SIG_IGN)
            self._child = _spawn(path, argv, env, mask, defaults)
        finally:
            for request in ignored:
                signal.signal(request, self._note_request)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return self._child

    def ended(self) -> None:
        """The command is about to be reaped: its pid must not be used any more."""
        self._ended = True
        self._child = None

    @contextlib.contextmanager
    def linger(self) -> Iterator[None]:
        """Within this block a signal makes `enough` readable; the command has ended."""
        if self._pipe is None:
            self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lingering = True
        # What was left to the command is ours now; unless it was ignored from the start.
        if signal.SIGINT in self._old:
            signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            self._lingering = False

    @property
    def enough(self) -> int:
        """Descriptor that is readable after a signal in `linger`."""
        assert self._pipe is not None, "not lingering"
        return self._pipe[0]

    @property
    def requested(self) -> int | None:
        """Descriptor that is readable after a request; None if there can be none."""
        return None if self._request_pipe is None else self._request_pipe[0]

    def take_requests(self) -> list[int]:
        """Return the signals that asked for something since the last call, each once."""
        if self._request_pipe is None:
            return []
        try:
            return [*dict.fromkeys(os.read(self._request_pipe[0], 65536))]
        except BlockingIOError:
            return []

    def _note_request(self, number: int, frame: FrameType | None) -> None:
        if self._request_pipe is not None:
            # Full: there is enough to do.
            with contextlib.suppress(BlockingIOError):
                os.write(self._request_pipe[1], bytes([number]))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._child is not None:
            os.kill(self._child, number)
        elif self._lingering and self._pipe is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._pipe[1], b"\0")
        elif not self._ended:
            # One is enough: what unwinds must not be interrupted in turn.
            self._ended = True
            raise SystemExit(128 + number)


def _spawn(
    path: str,
    argv: list[str],
    env: dict[str, str],
    mask: set[int | signal.Signals],
    defaults: set[signal.Signals],
) -> int:
    try:
        return os.posix_spawn(path, argv, env, setsigmask=mask, setsigdef=defaults)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A script without an interpreter line: what execvp and every shell do.
    shell = ["sh", path, *argv[1:]]
    return os.posix_spawn("/bin/sh", shell, env, setsigmask=mask, setsigdef=defaults)
