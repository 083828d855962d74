# SPDX-License-Identifier: MIT
"""Forks: the parent goes on as before, the child is a program of its own.

Our thread is gone while the process forks. Python says of programs that fork while they
have threads that they may deadlock, and this program did not start one.
"""

from __future__ import annotations

import _thread
import os

from ustconsumer._native import emit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ustconsumer.tracer.listener import Listener
    from ustconsumer.tracer.process import Process

__all__ = ["Forks", "install"]

#: Seconds to wait for a thread that is declaring a tracepoint.
_BOUND = 5.0


class Forks:
    """The three handlers of `os.register_at_fork`.

    An exception in one would be printed; nothing of ours is.
    """

    def __init__(self, listener: Listener, process: Process) -> None:
        self._listener = listener
        self._process = process
        # Whether the lock is held is a matter of each forking thread.
        self._held: dict[int, bool] = {}

    def before(self) -> None:
        """Stop our thread, then keep every other from changing what the child will find."""
        held = False
        try:
            self._listener.suspend()
            held = self._process.lock.acquire(timeout=_BOUND)
        except KeyboardInterrupt:
            _thread.interrupt_main()
        except BaseException as error:
            self._listener.last_error = error
        self._held[_thread.get_ident()] = held

    def parent(self) -> None:
        """Go on."""
        try:
            if self._held.pop(_thread.get_ident(), False):
                self._process.lock.release()
            self._listener.resume()
        except BaseException as error:
            self._listener.last_error = error

    def child(self) -> None:
        """Start anew."""
        try:
            self._held.clear()
            emit.after_fork()
            self._process.forget()
            self._listener.restart()
        except KeyboardInterrupt:
            _thread.interrupt_main()
        except BaseException as error:
            self._listener.last_error = error


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
