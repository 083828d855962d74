# SPDX-License-Identifier: MIT
"""A relay under test: ours, or LTTng's, on free ports of the loopback."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["Relayd", "relayd"]

_LISTENING = re.compile(r"listening: control (\d+), data (\d+)(?:, live (\d+))?")
_PATIENCE = 60.0
#: Below those that connections get: a relay that comes back finds its own.
_PORTS = range(10_000, 32_000)


class Relayd:
    """A running relay.

    Attributes
    ----------
    output : Path
        Below which it writes.
    control, data, live : int
        Its ports.
    process : subprocess.Popen
    """

    def __init__(
        self, kind: str, output: Path, options: Sequence[str], home: str, ports: Sequence[int]
    ):
        self.kind = kind
        self.output = output
        self._home = home
        self._options = list(options)
        self.control, self.data, self.live = ports
        self.process: subprocess.Popen[str]
        self.start()

    @property
    def url(self) -> str:
        """What a producer is told."""
        return f"net://127.0.0.1:{self.control}:{self.data}"

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log_path.read_text()

    @property
    def _log_path(self) -> Path:
        return self.output.with_name(self.output.name + ".log")

    def start(self) -> None:
        """Start it, again on the same ports if it was there before."""
        program = (
            ["lttng-relayd"]
            if self.kind == "lttng"
            else [sys.executable, "-P", "-m", "consumerd.relay"]
        )
        ports = (
            f"{option}tcp://127.0.0.1:{port}"
            for option, port in zip(
                ("-C", "-D", "-L"), (self.control, self.data, self.live), strict=True
            )
        )
        with open(self._log_path, "a") as log:
            self.process = subprocess.Popen(
                [*program, *ports, "-o", str(self.output), *self._options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "HOME": self._home, "LTTNG_HOME": self._home},
                start_new_session=True,
            )
        try:
            if self.kind == "lttng":
                self._wait_for_ports()
            else:
                self._read_ports()
        except BaseException:
            self.kill()
            raise

    def viewer_url(self, session: str) -> str:
        """What a live viewer is told."""
        return f"net://127.0.0.1:{self.live}/host/{socket.gethostname()}/{session}"

    def kill(self) -> None:
        """Kill it: SIGKILL."""
        self.process.kill()
        self.process.wait()
        self._close_pipe()

    def stop(self) -> None:
        """End it; it must end well."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            status = self.process.wait(_PATIENCE)
            # LTTng's may fail an assertion when it lets go of sessions that were broken off.
            assert not status or (self.kind, status) == ("lttng", -signal.SIGABRT), self.log
        self._close_pipe()

    def _close_pipe(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read_ports(self) -> None:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], _PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        match = _LISTENING.match(line)
        assert match, f"{line!r}: {self.log}"
        self.control, self.data = int(match[1]), int(match[2])
        self.live = int(match[3] or 0)

    def _wait_for_ports(self) -> None:
        begin = time.monotonic()
        for port in (self.control, self.data, self.live):
            while True:
                assert self.process.poll() is None, self.log
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                assert time.monotonic() - begin < _PATIENCE
                time.sleep(0.01)


@contextlib.contextmanager
def relayd(kind: str, output: Path, *options: str) -> Iterator[Relayd]:
    """Run a relay until the end of the block.

    Parameters
    ----------
    kind : str
        "ours" or "lttng".
    output : Path
        Made if it is not there; anybody may write below it.
    """
    output.mkdir(parents=True, exist_ok=True)
    # LTTng's makes sockets below its home, whose path must be short.
    with tempfile.TemporaryDirectory(prefix="ust-relay-", dir="/tmp") as home:
        running = _started(kind, output, options, home)
        try:
            yield running
            running.stop()
        finally:
            if running.process.poll() is None:
                running.kill()
            running._close_pipe()


def _started(kind: str, output: Path, options: Sequence[str], home: str) -> Relayd:
    """Start one; another test may take a port that was free a moment ago."""
    for _ in range(4):
        try:
            return Relayd(kind, output, options, home, _free_ports(3))
        except AssertionError as error:
            if "Address already in use" not in str(error):
                raise
    return Relayd(kind, output, options, home, _free_ports(3))


def _free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            each = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                each.bind(("127.0.0.1", secrets.choice(_PORTS)))
                found.append(each.getsockname()[1])
        return found
