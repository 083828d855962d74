# SPDX-License-Identifier: MIT
"""The thread that looks for registries and serves those that answer.

One thread, whatever the number of registries. It starts with the first provider, is
stopped while the process forks, and does nothing while no registry is there.
"""

from __future__ import annotations

import _thread
import atexit
import os
import select
import time

from ustconsumer._native import emit
from ustconsumer.tracer.link import Link, open_sockets
from ustconsumer.tracer.process import process_name
from ustconsumer.tracer.rendezvous import DEFAULT_TIMEOUT, Place, places, register_timeout
from ustconsumer.tracer.waiting import Alarm, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Without the enumerations of ``signal``, which cost a program half a millisecond.
    import signal as _signal

    from ustconsumer.tracer.process import Process
else:
    import _signal

__all__ = ["Listener", "attach", "detach", "listener", "start"]

#: Seconds between looks at the words of other places while a registry is connected: the
#: kernel waits for words or for sockets.
_LOOK = 1.0
#: Seconds the thread gets to end what it is at: more than any registry may take.
_BOUND = 10.0
#: Seconds it gets when the program ends.
_LAST_BOUND = 1.0
_SUFFIX = b"-ust"
_NAME_SIZE = 15


class Listener:
    """The thread and what it serves. There is one: `listener`.

    Attributes
    ----------
    last_error : BaseException or None
        What went wrong last. Nobody is told: a traced program does not hear of its tracer.
    ident : int
        The thread's; what it does is not what the program does.
    """

    def __init__(self) -> None:
        self.last_error: BaseException | None = None
        self._guard = _thread.allocate_lock()
        self._process: Process | None = None
        self._links: list[Link] = []
        self._words = Words()
        self._alarm: Alarm | None = None
        self._timeout: float | None = DEFAULT_TIMEOUT
        self._patience: float | None = DEFAULT_TIMEOUT
        # The thread ends when it sees the first, and says so with the second.
        self._stopping = False
        self._running = False
        self._name = b""
        self.ident = 0
        self._tid = 0
        self._gone: _thread.LockType | None = None
        self._suspended = 0
        self._over = False

    # -- for the program's threads ------------------------------------------------------------

    def start(self, process: Process) -> None:
        """Start looking for registries; wait until those that answer have set us up."""
        self._begin(process)
        self.wait_settled()

    def _begin(self, process: Process) -> None:
        with self._guard:
            if self._process is not None:
                return
            self._process = process
        from ustconsumer.tracer import forking

        self._timeout = register_timeout()
        # Who does not want to wait for a registration still wants its events registered.
        self._patience = self._timeout or (None if self._timeout is None else DEFAULT_TIMEOUT)
        self._alarm = Alarm()
        self._links = [Link(place) for place in places()]
        forking.install(self, process)
        atexit.register(self._end)
        self._launch()

    def wait_settled(self) -> None:
        """Wait for every place, for as long as the program is to wait."""
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        for link in list(self._links):
            link.settled.wait(None if deadline is None else deadline - time.monotonic())

    def attach(self, rundir: str, process: Process) -> None:
        """Register with the registry of a run directory and wait for the end of that.

        Raises
        ------
        OSError
            There is none, it refuses, or it does not set us up in time.
        """
        self._begin(process)
        rundir = os.fspath(rundir)
        link = self._link(rundir)
        if link is None:
            link = Link(Place(rundir), explicit=True)
            self._links = [*self._links, link]
        elif link.connection is not None and link.connection.registered:
            return
        else:
            link.try_now()
        self._ring()
        bound = self._patience or DEFAULT_TIMEOUT
        settled = link.settled.wait(bound)
        connection = link.connection
        if connection is not None and connection.registered:
            return
        error = link.error
        if link.explicit:
            self._leave(link)
        if not settled:
            raise TimeoutError(f"the registry in {rundir} has not registered this process")
        raise OSError(f"no registry in {rundir}: {error}") from error

    def detach(self, rundir: str) -> None:
        """End what `attach` began. A registry that the process looks for by itself stays."""
        link = self._link(os.fspath(rundir))
        if link is not None and link.explicit:
            self._leave(link)

    def registered(self) -> list[str]:
        """Return the run directories of the registries this process is registered with."""
        return [
            link.place.rundir
            for link in self._links
            if link.connection is not None and link.connection.registered
        ]

    def _link(self, rundir: str) -> Link | None:
        wanted = os.path.realpath(rundir)
        for link in self._links:
            if os.path.realpath(link.place.rundir) == wanted and not link.leaving:
                return link
        return None

    def _leave(self, link: Link) -> None:
        link.leaving = True
        self._ring()
        link.left.wait(_BOUND)

    def _ring(self) -> None:
        if self._alarm is not None:
            self._alarm.ring()

    # -- the thread's life ----------------------------------------------------------------------

    def _launch(self) -> None:
        """Start the thread. Signals are the program's: they go to its own threads."""
        self._stopping = False
        self._running = True
        gone = _thread.allocate_lock()
        gone.acquire()
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        try:
            _thread.start_new_thread(self._main, (gone,))
            self._gone = gone
        except RuntimeError as error:
            # Too many threads, or an interpreter that is ending: nobody waits for us.
            self.last_error = error
            self._settle()
            self._running = False
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)

    def _stop(self, bound: float) -> bool:
        """Have the thread end; False if it did not in time. The connections stay."""
        gone = self._gone
        if gone is None:
            return True
        deadline = time.monotonic() + bound
        self._stopping = True
        self._ring()
        if not gone.acquire(timeout=bound):
            return False
        gone.release()
        self._gone = None
        # Python is through with it. The kernel is a moment later, and counts it until then.
        task = f"/proc/self/task/{self._tid}"
        while os.path.exists(task):
            if time.monotonic() > deadline:
                return False
            os.sched_yield()
        return True

    def suspend(self) -> bool:
        """Stop the thread for a fork; False if it goes on."""
        with self._guard:
            self._suspended += 1
        return self._stop(_BOUND)

    def resumed(self) -> None:
        """Take note that a fork is over, in the parent: `relaunch` follows."""
        with self._guard:
            self._suspended -= 1

    def relaunch(self) -> None:
        """Go on with the same connections, unless another thread is forking."""
        with self._guard:
            if self._suspended or self._over or self._process is None:
                return
            # It may have been too busy to stop, and then need not.
            self._stopping = False
            if not self._running:
                self._launch()

    def restart(self) -> None:
        """In a forked child: forget the parent's connections and look for registries anew."""
        self._suspended = 0
        self._guard = _thread.allocate_lock()
        self._gone = None
        self._name = b""
        connected = bool(self.registered())
        links, self._links = self._links, []
        for link in links:
            if link.connection is not None:
                link.connection.abandon()
            if not link.leaving:
                self._links.append(Link(link.place, link.explicit))
        if self._alarm is not None:
            self._alarm.close()
        self._alarm = Alarm()
        self._words.close()
        self._words = Words()
        if self._over:
            return
        self._launch()
        if connected:
            self.wait_settled()

    def _end(self) -> None:
        """The program ends: no thread of ours while the interpreter is taken apart.

        Buffers and sockets go with the process; until then events are recorded.
        """
        self._over = True
        self._stop(_LAST_BOUND)

    def _settle(self) -> None:
        for link in self._links:
            link.settled.set()
            link.left.set()

    # -- the thread -----------------------------------------------------------------------------

    def _main(self, gone: _thread.LockType) -> None:
        self.ident = _thread.get_ident()
        self._tid = _thread.get_native_id()
        try:
            if not self._name:
                self._name = process_name()[: _NAME_SIZE - len(_SUFFIX)] + _SUFFIX
            emit.set_thread_name(self._name)
            self._run()
        except BaseException as error:
            self.last_error = error.with_traceback(None)
            self._settle()
            self._running = False
        finally:
            gone.release()

    def _run(self) -> None:
        alarm = self._alarm
        assert alarm is not None
        while True:
            alarm.silence()
            if self._told_to_stop():
                return
            for link in self._links:
                self._look_after(link)
            connected = [link for link in self._links if link.connection is not None]
            if connected:
                self._serve(alarm, connected)
            else:
                self._sleep(alarm)

    def _told_to_stop(self) -> bool:
        with self._guard:
            if self._stopping:
                self._running = False
            return self._stopping

    def _look_after(self, link: Link) -> None:
        """Clear up after a connection that is over; try a place that is due."""
        if link.connection is not None and (link.ended or link.leaving):
            self._clear_up(link)
        if link.leaving:
            if link.connection is None:
                self._links = [other for other in self._links if other is not link]
                link.left.set()
        elif link.due() == 0.0:
            self._connect(link)

    def _connect(self, link: Link) -> None:
        link.trying()
        try:
            command, notify = open_sockets(link.place.socket_path)
        except BlockingIOError as error:
            if not link.queue(self._timeout):
                self._failed(link, error)
            return
        except OSError as error:
            link.failed(error)
            return
        try:
            from ustconsumer.tracer.connection import Connection

            assert self._process is not None
            link.connected(Connection(command, notify, self._process, self._patience))
        except BaseException as error:
            command.close()
            notify.close()
            self._failed(link, error)

    def _failed(self, link: Link, error: BaseException) -> None:
        self.last_error = error.with_traceback(None)
        link.failed(error)

    def _sleep(self, alarm: Alarm) -> None:
        """No registry: sleep until there may be one."""
        timeouts = []
        words = []
        for link in self._links:
            due = link.due()
            if due is not None:
                timeouts.append(due)
            if link.place.word is not None and link.last_value is not None:
                words.append((link.place.word, link.last_value))
        woken = self._words.wait(alarm, words, min(timeouts, default=None))
        for link in self._links:
            if woken is not None and link.place.word is woken:
                link.woken()

    def _serve(self, alarm: Alarm, connected: list[Link]) -> None:
        """Wait for the registries and do what they say."""
        poll = select.poll()
        poll.register(alarm.fd, select.POLLIN)
        timeouts = [_LOOK] if any(link.idle for link in self._links) else []
        for link in connected:
            assert link.connection is not None
            link.connection.watch(poll)
            if link.connection.again or link.ended or link.leaving:
                timeouts.append(0.0)
        timeouts += [due for link in self._links if (due := link.due()) is not None]
        timeout = min(timeouts, default=None)
        events = poll.poll(None if timeout is None else int(timeout * 1000 + 0.999))
        for link in connected:
            if self._stopping:
                return
            self._advance(link, events)

    def _advance(self, link: Link, events: list[tuple[int, int]]) -> None:
        connection = link.connection
        assert connection is not None
        own = [(fd, event) for fd, event in events if connection.owns(fd)]
        if not (own or connection.again) or link.ended:
            return
        try:
            for fd, event in own:
                connection.hung_up(fd, event)
            connection.advance()
            if connection.registered:
                link.settled.set()
        except BaseException as error:
            link.ended = True
            link.error = self.last_error = error.with_traceback(None)
            self._clear_up(link)

    def _clear_up(self, link: Link) -> None:
        """Let go of a connection, now or when the lock of the process is to be had."""
        connection = link.connection
        assert connection is not None
        try:
            if not connection.close():
                return
        except BaseException as error:
            self.last_error = error.with_traceback(None)
        ending = link.error or ConnectionAbortedError("detached")
        # The registry is still there unless the sockets say otherwise: try again at once.
        link.failed(ending, at_once=not isinstance(ending, OSError))


listener = Listener()


def start(process: Process) -> None:
    """Start looking for registries; wait until those that answer have set us up."""
    listener.start(process)


def attach(rundir: str) -> None:
    """Register this process with the registry of a run directory; see `Listener.attach`."""
    from ustconsumer.tracer.process import process

    listener.attach(rundir, process)


def detach(rundir: str) -> None:
    """End what `attach` began."""
    listener.detach(rundir)
