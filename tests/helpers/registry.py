# SPDX-License-Identifier: MIT
"""A real registry process in a test's own run directory."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from helpers.rundir import Rundir

from ustconsumer.client.registry import Registry
from ustconsumer.client.registry import connect as connect_to
from ustconsumer.protocol.control import AppInfo

__all__ = ["RunningRegistry", "running_registry", "until"]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that must happen; only pytest's one limit on hangs is a bound."""
    waiting = time.monotonic()
    while not condition():
        assert time.monotonic() - waiting < 60, f"did not happen: {what}"
        time.sleep(0.005)


class RunningRegistry:
    """A registry under test.

    Attributes
    ----------
    process : subprocess.Popen
    client : Registry
        Connected to it.
    killed : bool
        By `kill`.
    """

    def __init__(self, process: subprocess.Popen[bytes], client: Registry, log: Path):
        self.process = process
        self.client = client
        self.killed = False
        self._log = log

    def kill(self) -> None:
        """Kill it: SIGKILL."""
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL
        self.killed = True

    def log(self) -> list[str]:
        """Return what it has said so far."""
        return self._log.read_text().splitlines()

    def applications(self) -> dict[int, AppInfo]:
        """Return what it knows of applications, by pid."""
        return {app.pid: app for app in self.client.applications()}


@contextlib.contextmanager
def running_registry(
    rundir: Rundir, *options: str, private: bool = True, prefix: Sequence[str] = ()
) -> Iterator[RunningRegistry]:
    """Run a registry until the end of the block; unless the test kills it, it must end well.

    Lasting ones (not ``private``) of one uid share a wait word: one at a time. ``prefix`` is
    a command that runs its command line (in the same process).
    """
    log = rundir.home / "registry.log"
    reading, writing = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reading)
        with open(log, "wb") as stderr:
            process = rundir.start_python(
                "-P",
                "-m",
                "sessiond",
                "--rundir",
                rundir.path,
                *(("--private",) if private else ()),
                "--ready-fd",
                str(writing),
                *options,
                stderr=stderr,
                pass_fds=(writing,),
                prefix=prefix,
            )
        os.close(writing)
        select.select([reading], [], [], 60)
        assert os.read(reading, 1), log.read_text()
        # It said so, and neither it nor a child keeps whoever waits for the end of that.
        select.select([reading], [], [], 60)
        assert os.read(reading, 1) == b"", log.read_text()
        with connect_to(rundir.path) as client:
            registry = RunningRegistry(process, client, log)
            yield registry
        if not registry.killed:
            process.terminate()
            assert process.wait() == 0, log.read_text()
