# SPDX-License-Identifier: MIT
"""Finding a registry, or starting one: a lasting one for everybody, a private one for a command."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from ustconsumer.client.connection import Connection
from ustconsumer.errors import BrokenResourceError, CommandError
from ustconsumer.paths import LTTNG_LOCK, LTTNG_PID, default_rundir

__all__ = ["Lines", "PrivateRegistry", "ensure"]

#: A registry binds its sockets in a fraction of a second, also on a loaded machine.
_READY_SECONDS = 20.0
#: From the lock to the sockets of a registry that somebody else starts.
_NEIGHBOUR_SECONDS = 1.0
#: The registry bounds its own end (10 s for a drain); after this it is killed.
_EXIT_SECONDS = 20.0
#: "/.lttng/lttng-ust-sock-8" must fit behind the home in sockaddr_un.sun_path.
_MAX_HOME = 107 - len("/.lttng/lttng-ust-sock-8")


def ensure(rundir: str | os.PathLike[str] | None = None, *, group: str | None = None) -> Connection:
    """Connect to a live registry, or start a lasting one in the background.

    Raises
    ------
    CommandError
        It could not be started; the message is the registry's own reason.
    """
    with contextlib.suppress(BrokenResourceError):
        return Connection.connect(rundir)
    place = default_rundir(None if rundir is None else os.fspath(rundir))
    arguments = ["--rundir", str(place), "--daemonize"]
    if group is not None:
        arguments += ["--group", group]
    try:
        process, errors = _spawn(arguments, {})
    except CommandError:
        # Another may have started one at the same time; it locks first and listens a little later.
        with contextlib.suppress(BrokenResourceError):
            return _connect_soon(place)
        raise
    # What it says after it is ready goes to its own log: nobody reads the pipe any more.
    os.close(errors)
    process.wait()
    return Connection.connect(place)


def _connect_soon(place: str) -> Connection:
    deadline = time.monotonic() + _NEIGHBOUR_SECONDS
    while True:
        try:
            return Connection.connect(place)
        except BrokenResourceError:
            # lttng-sessiond has a lock of that name too, and a file with its pid.
            ours = os.path.exists(os.path.join(place, LTTNG_LOCK)) and not os.path.exists(
                os.path.join(place, LTTNG_PID)
            )
            if not ours or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


class Lines:
    """The lines of a pipe that somebody else writes.

    Parameters
    ----------
    fd : int
        Read end; owned, made non-blocking.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._rest = b""

    def fileno(self) -> int:
        return self._fd

    def read(self) -> tuple[list[str], bool]:
        """Return the lines that are complete, and whether more may come."""
        open_ = True
        try:
            while chunk := os.read(self._fd, 65536):
                self._rest += chunk
            open_ = False
        except BlockingIOError:
            pass
        *lines, self._rest = self._rest.split(b"\n")
        if not open_ and self._rest:
            lines.append(self._rest)
            self._rest = b""
        return [line.decode(errors="replace") for line in lines], open_

    def close(self) -> None:
        os.close(self._fd)


class PrivateRegistry:
    """A registry for one recording, in a home of its own; gone with `close` or with us.

    Attributes
    ----------
    home : Path
        Value of LTTNG_HOME that leads programs to it.
    connection : Connection
    said : Lines
        Its standard error.
    """

    def __init__(self) -> None:
        self.home = _private_home()
        lifeline, self._lifeline = os.pipe()
        try:
            rundir = self.home / ".lttng"
            rundir.mkdir(mode=0o700)
            arguments = ["--rundir", str(rundir), "--private", "--lifeline", str(lifeline)]
            self._process, errors = _spawn(arguments, {"LTTNG_HOME": str(self.home)}, (lifeline,))
            self.said = Lines(errors)
        except BaseException:
            os.close(self._lifeline)
            shutil.rmtree(self.home, ignore_errors=True)
            raise
        finally:
            os.close(lifeline)
        try:
            self.connection = Connection.connect(rundir)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the registry, and id of the group its processes form."""
        return self._process.pid

    def poll(self) -> None:
        """Reap the registry if it ended by itself."""
        self._process.poll()

    def abandon(self) -> None:
        """In a forked child: let go of what keeps the parent's registry alive."""
        self.connection.close()
        self.said.close()
        os.close(self._lifeline)
        # Nobody's child any more, as far as this process is concerned.
        self._process.returncode = 0

    def close(self) -> list[str]:
        """End the registry and all it started, remove its home; return its last lines."""
        connection = getattr(self, "connection", None)
        if connection is not None:
            connection.close()
        # The end of the lifeline is the order to drain and exit.
        os.close(self._lifeline)
        last = _await_group(self._process, self.said)
        self.said.close()
        shutil.rmtree(self.home, ignore_errors=True)
        return last


def _private_home() -> Path:
    """Create a directory only we may enter, with a path short enough for the sockets in it."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for parent in (runtime, tempfile.gettempdir(), "/tmp"):  # noqa: S108 (mkdtemp below)
        if parent.startswith("/") and len(parent) + len("/drtrace-12345678") <= _MAX_HOME:
            with contextlib.suppress(OSError):
                return Path(tempfile.mkdtemp(prefix="drtrace-", dir=parent))
    raise CommandError("no directory for temporary sockets: make /tmp writable")


def _spawn(
    arguments: list[str], env: dict[str, str], pass_fds: tuple[int, ...] = ()
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a registry in a session of its own and wait until it listens.

    Returns the process and the read end of its standard error.
    """
    ready, ready_write = os.pipe()
    errors, errors_write = os.pipe()
    try:
        process = subprocess.Popen(
            # -P: a directory named sessiond where the user stands must not be taken for ours.
            [sys.executable, "-P", "-m", "sessiond", "--ready-fd", str(ready_write), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors_write,
            env={**_without_tracer(os.environ), **env},
            pass_fds=(ready_write, *pass_fds),
            start_new_session=True,
        )
    except BaseException as error:
        os.close(errors)
        os.close(ready)
        if isinstance(error, OSError):
            raise CommandError(
                f"cannot start the session registry with {sys.executable} ({error.strerror})"
            ) from None
        raise
    finally:
        os.close(ready_write)
        os.close(errors_write)
    try:
        said = _await_ready(ready, errors)
    except BaseException:
        _kill_group(process.pid)
        process.wait()
        os.close(errors)
        raise
    finally:
        os.close(ready)
    if said is not None:
        process.wait()
        os.close(errors)
        lines = [line for line in said.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"it exited with status {process.returncode}"
        raise CommandError(reason.removeprefix("ltt-sessiond: ").removeprefix("Error: "))
    return process, errors


#: Of the service we may run in: the registry must not speak for it, nor take its sockets.
_OF_SERVICES = ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def _without_tracer(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a registry does not become its own application."""
    kept = {name: value for name, value in env.items() if name not in _OF_SERVICES}
    libraries = re.split("[: ]", kept.pop("LD_PRELOAD", ""))
    others = [library for library in libraries if library and "liblttng-ust" not in library]
    if others:
        kept["LD_PRELOAD"] = ":".join(others)
    return kept


def _await_ready(ready: int, errors: int) -> str | None:
    """Return ``None`` once the registry is ready, or all it said on standard error if it ended."""
    said = bytearray()
    poller = select.poll()
    poller.register(ready, select.POLLIN)
    poller.register(errors, select.POLLIN)
    deadline = time.monotonic() + _READY_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        for fd, _ in poller.poll(left * 1000):
            chunk = os.read(fd, 4096)
            if fd == ready:
                if chunk:
                    return None
                poller.unregister(ready)
            elif chunk:
                said += chunk
            else:
                return said.decode(errors="replace")
    raise CommandError(
        f"the session registry was not ready after {_READY_SECONDS:.0f} s and was stopped: "
        "run `ltt-sessiond -v` to see why"
    )


def _await_group(process: subprocess.Popen[bytes], said: Lines) -> list[str]:
    """Wait until the registry and every process it left behind are gone; kill what stays.

    Returns the last lines they said.
    """
    deadline = time.monotonic() + _EXIT_SECONDS
    last: list[str] = []
    while True:
        lines, open_ = said.read()
        last += lines
        process.poll()
        # A subreaper inherits the registry's children: reap those of its group only.
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-process.pid, os.WNOHANG)[0]:
                pass
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return last + said.read()[0]
        if not open_ and process.returncode is not None:
            # All of them hold the pipe. What is left of the group are zombies, and whose
            # children they are now may be slow to reap them, or never do.
            return last
        if time.monotonic() > deadline:
            _kill_group(process.pid)
            deadline += _EXIT_SECONDS
        time.sleep(0.002)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
