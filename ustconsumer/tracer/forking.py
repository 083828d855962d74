# SPDX-License-Identifier: MIT
"""Forks: the parent goes on as before, the child is a program of its own.

Our thread is gone while the process forks. Python says of programs that fork while they
have threads that they may deadlock, and this program did not start one.
"""

from __future__ import annotations

import _thread
import os
import sys

from ustconsumer._native import emit
from ustconsumer._native.pending import Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from ustconsumer.tracer.listener import Listener
    from ustconsumer.tracer.process import Process

__all__ = ["Forks", "install"]

#: Seconds to wait for a thread that is declaring a tracepoint.
_BOUND = 5.0


class Forks:
    """The handlers of `os.register_at_fork`.

    An exception in one would be printed; nothing of ours is.
    """

    def __init__(self, listener: Listener, process: Process) -> None:
        self._listener = listener
        self._process = process
        # Whether the lock is held is a matter of each forking thread.
        self._held: dict[int, bool] = {}
        # Where the main thread forks, and the instruction there.
        self._forker: FrameType | None = None
        self._instruction = -1

    def before(self) -> None:
        """Stop our thread, then keep every other from changing what the child will find."""
        held = False
        try:
            if _in_main_thread():
                # Handlers are called by C code: behind this frame is that of the fork.
                self._forker = sys._getframe().f_back
                self._instruction = -1 if self._forker is None else self._forker.f_lasti
            self._listener.suspend()
            held = self._process.lock.acquire(timeout=_BOUND)
        except KeyboardInterrupt:
            _thread.interrupt_main()
        except BaseException as error:
            self._listener.last_error = error
        self._held[_thread.get_ident()] = held

    def parent(self) -> None:
        """Go on. The main thread starts ours when ``fork`` has returned: see `later`."""
        try:
            if self._held.pop(_thread.get_ident(), False):
                self._process.lock.release()
            self._listener.resumed()
            if not _in_main_thread():
                self._listener.relaunch()
        except BaseException as error:
            self._listener.last_error = error

    def later(self, last: bool) -> bool:
        """Start our thread if the fork is over, else return True; called by the main thread.

        Since Python 3.13 threads are counted after the handlers. A program that forks in
        another thread than the main one has several, and is warned of in any case.
        """
        try:
            if self._forking() and not last:
                return True
            self._forker = None
            self._listener.relaunch()
        except Exception as error:
            self._listener.last_error = error
        return False

    def _forking(self) -> bool:
        """Tell whether the bytecode we are called between is that of another handler."""
        forker = self._forker
        if forker is None or forker.f_lasti != self._instruction:
            return False
        frame = sys._getframe(2)
        if frame is forker:
            return False
        above: FrameType | None = frame
        while above is not None and above is not forker:
            above = above.f_back
        return above is not None

    def child(self) -> None:
        """Start anew."""
        try:
            self._held.clear()
            self._forker = None
            emit.after_fork()
            self._process.forget()
            self._listener.restart()
        except KeyboardInterrupt:
            _thread.interrupt_main()
        except BaseException as error:
            self._listener.last_error = error


def _in_main_thread() -> bool:
    # The kernel's view: `threading` may not be there to ask.
    return _thread.get_native_id() == os.getpid()


_installed = False


def install(listener: Listener, process: Process) -> None:
    """Have forks handled from now on."""
    global _installed
    if not _installed:
        _installed = True
        forks = Forks(listener, process)
        os.register_at_fork(
            before=forks.before, after_in_parent=forks.parent, after_in_child=forks.child
        )
        os.register_at_fork(after_in_parent=Later(forks.later))
