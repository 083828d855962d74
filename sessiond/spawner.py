# SPDX-License-Identifier: MIT
"""The spawner: a small single-threaded child that forks consumers.

It is forked before the registry has a loop or a thread, imports what a consumer
needs once, freezes it, and forks one consumer per request: a consumer then costs
only the pages it changes, and is ready in milliseconds. It reports each consumer's
start and end. When the registry goes away it waits for its consumers, which drain
and end by themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec

from ustconsumer.errors import BrokenResourceError

__all__ = ["Program", "Spawner", "SpawnerEvent", "start_spawner"]

_MAX_MESSAGE = 1 << 16
_FOR_CONSUMERS = (signal.SIGTERM, signal.SIGINT)
#: The consumers' program, by name: no import of it from here (it is run, not used).
_PROGRAM = "consumerd.__main__"
#: What it would import only once it runs: here once for all.
_LATE_IMPORTS = (
    "pwd",
    "shutil",
    "ustconsumer.consumer.sinks.disk",
    "ustconsumer.consumer.snapshot",
)


class Program(NamedTuple):
    """Which consumer to start, and with which options (`SpawnConsumer`)."""

    kind: str
    workers: int = 0
    direct: bool = False
    #: of a snapshot
    output: str = ""
    max_size: int = 0
    #: of a snapshot that goes to a relay (`SnapshotPlace`)
    url: str = ""
    data_url: str = ""
    name: str = ""

    def argv(self, session: str) -> list[str]:
        """Return its arguments."""
        options = ["--workers", str(self.workers)] if self.workers else []
        if self.direct:
            options.append("--direct")
        if self.output:
            options += ["--output", self.output]
        if self.max_size:
            options += ["--max-size", str(self.max_size)]
        if self.url:
            options += [f"--to={self.url}", f"--data-url={self.data_url}", f"--name={self.name}"]
        return [self.kind, session, *options]


class _Request(msgspec.Struct, tag=True):
    id: int
    session: str
    program: Program
    uid: int
    gid: int
    files_only: bool


class _Kill(msgspec.Struct, tag=True):
    id: int


class SpawnerEvent(NamedTuple):
    """A consumer started (``status`` is None) or ended.

    ``status`` is the exit status, or minus the signal's number; ``pid`` 0 means that
    it could not be started.
    """

    id: int
    pid: int
    status: int | None


class Spawner:
    """The registry's handle of its spawner.

    Parameters
    ----------
    sock : socket.socket
        Our end of the pair; its descriptor is readable when `read_events` has something.
    pid : int
        The spawner's process.
    """

    def __init__(self, sock: socket.socket, pid: int) -> None:
        self._socket = sock
        self._next = 0
        self.pid = pid
        self.fd = sock.fileno()

    def spawn(
        self, session: str, program: Program, uid: int, gid: int, files_only: bool = False
    ) -> int:
        """Ask for a consumer with the credentials of its session's owner; return the request's id.

        Parameters
        ----------
        files_only : bool
            It has them where files are concerned, and is the registry's otherwise: it has
            the buffers of programs that are not its owner's.

        Raises
        ------
        BrokenResourceError
            The spawner is gone.
        """
        self._next += 1
        self._ask(_Request(self._next, session, program, uid, gid, files_only))
        return self._next

    def kill(self, number: int) -> None:
        """Have a consumer killed, by its request's id; nothing if it has ended.

        Raises
        ------
        BrokenResourceError
            The spawner is gone.
        """
        self._ask(_Kill(number))

    def _ask(self, request: _Request | _Kill) -> None:
        try:
            self._socket.send(msgspec.msgpack.encode(request))
        except OSError as error:
            raise BrokenResourceError(f"the spawner is gone: {error.strerror}") from None

    def read_events(self) -> list[SpawnerEvent]:
        """Return what happened since the last call, without waiting.

        Raises
        ------
        BrokenResourceError
            The spawner is gone.
        """
        events: list[SpawnerEvent] = []
        while True:
            try:
                raw = self._socket.recv(_MAX_MESSAGE)
            except BlockingIOError:
                return events
            except OSError as error:
                raise BrokenResourceError(f"the spawner is gone: {error.strerror}") from None
            if not raw:
                if events:
                    return events
                raise BrokenResourceError("the spawner is gone")
            events.append(msgspec.msgpack.decode(raw, type=SpawnerEvent))

    def close(self) -> None:
        """Tell the spawner to end once its consumers have."""
        self._socket.close()


def start_spawner(rundir: str | os.PathLike[str], not_inherited: Iterable[int] = ()) -> Spawner:
    """Fork the spawner of a registry.

    To be called while the process has one thread and no loop. ``not_inherited`` are
    descriptors whose other ends wait for the registry alone to close them.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        ours.close()
        for fd in not_inherited:
            os.close(fd)
        _child(lambda: _serve(theirs, Path(rundir)))
    theirs.close()
    ours.setblocking(False)
    return Spawner(ours, pid)


def _child(body: Callable[[], int]) -> NoReturn:
    """Run the body of a forked child; never return into the parent's stack."""
    status = 1
    try:
        status = body()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(status)


def _serve(sock: socket.socket, rundir: Path) -> int:
    """Fork consumers as asked until the registry hangs up and the last consumer ended."""
    # Terminal and registry signals are not for us: we end with the registry's socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    # One thread in each of numpy's helpers, or the fork would lose locks with them.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    program = importlib.import_module(_PROGRAM)
    for name in _LATE_IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    children: dict[int, int] = {}
    listening = True
    while listening or children:
        watched = [sock.fileno(), wake_read] if listening else [wake_read]
        readable, _, _ = select.select(watched, [], [], 5.0)
        with contextlib.suppress(BlockingIOError):
            os.read(wake_read, 4096)
        if sock.fileno() in readable:
            try:
                raw = sock.recv(_MAX_MESSAGE)
            except ConnectionResetError:
                # The registry went away without reading our last reports.
                raw = b""
            if raw:
                request = msgspec.msgpack.decode(raw, type=_Request | _Kill)
                if isinstance(request, _Kill):
                    _kill(request.id, children)
                else:
                    _start(sock, rundir, request, children, program.main, (wake_read, wake_write))
            else:
                listening = False
        for pid in list(children):
            done, raw_status = os.waitpid(pid, os.WNOHANG)
            if done:
                event = SpawnerEvent(children.pop(pid), pid, os.waitstatus_to_exitcode(raw_status))
                _send(sock, event)
    return 0


def _kill(number: int, children: dict[int, int]) -> None:
    # By us, who wait for it: nobody else can have its pid.
    for pid, request in children.items():
        if request == number:
            os.kill(pid, signal.SIGKILL)


def _start(
    sock: socket.socket,
    rundir: Path,
    request: _Request,
    children: dict[int, int],
    main: Callable[[list[str]], int],
    fds: tuple[int, int],
) -> None:
    # One that is meant for the consumer must not fall on our ignoring it: it waits there
    # until the consumer's own handlers are in place.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_CONSUMERS)
    try:
        pid = os.fork()
    except OSError:
        pid = -1
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_CONSUMERS)
    if pid < 0:
        _send(sock, SpawnerEvent(request.id, 0, 1))
        return
    if pid:
        children[pid] = request.id
        _send(sock, SpawnerEvent(request.id, pid, None))
        return

    def body() -> int:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, *_FOR_CONSUMERS):
            signal.signal(number, signal.SIG_DFL)
        sock.close()
        for fd in fds:
            os.close(fd)
        _become(request.uid, request.gid, request.files_only)
        return main([*request.program.argv(request.session), "--rundir", str(rundir)])

    _child(body)


def _become(uid: int, gid: int, files_only: bool = False) -> None:
    """Take the credentials of the session's owner, for good.

    With ``files_only`` the kernel judges every file by them, and what is made is the
    owner's; but the owner can neither trace the process nor signal it, and so cannot reach
    the memory of other users' programs through it.
    """
    if os.getuid() != 0 or uid == 0:
        return
    # Groups first: afterwards we may not change them.
    try:
        import pwd

        os.initgroups(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        os.setgroups([])
    if files_only:
        # Of this thread, and of those that it starts. Neither call tells whether it worked.
        libc = ctypes.CDLL(None)
        for change, wanted in ((libc.setfsgid, gid), (libc.setfsuid, uid)):
            change(wanted)
            if change(-1) != wanted:
                raise PermissionError(f"cannot use files as uid {uid}, gid {gid}")
        return
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _send(sock: socket.socket, event: SpawnerEvent) -> None:
    # The registry may be gone: then nobody needs to know.
    with contextlib.suppress(OSError):
        sock.send(msgspec.msgpack.encode(event))
