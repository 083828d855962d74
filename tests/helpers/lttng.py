# SPDX-License-Identifier: MIT
"""The real LTTng, in a private home, as an ordinary user."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from helpers import processes
from helpers.rundir import Rundir, private_rundir
from helpers.users import ordinary_user_alone

__all__ = ["Lttng", "lttng_record", "lttng_sessiond"]


class Lttng:
    """A running lttng-sessiond and the client that talks to it."""

    def __init__(self, rundir: Rundir):
        self.rundir = rundir

    def __call__(self, *arguments: str | os.PathLike[str]) -> str:
        """Run ``lttng ARGUMENTS``; return what it printed."""
        command = ["lttng", "--no-sessiond", *arguments]
        result = self.rundir.run(command)
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return str(result.stdout)


@contextlib.contextmanager
def lttng_sessiond() -> Iterator[Lttng]:
    """Run a real session daemon.

    Root's daemon lives in /var/run/lttng, one per machine; an ordinary user's lives in
    its home, so that tests of several users can have one at the same time.
    """
    with ordinary_user_alone() as user, private_rundir(user) as rundir:
        log = rundir.home / "lttng-sessiond.log"
        with open(log, "wb") as file:
            # Returns when the daemon answers. The daemon keeps its output open: no pipes.
            command = ["lttng-sessiond", "--no-kernel", "--background"]
            result = rundir.run(command, stdout=file, stderr=file)
        assert result.returncode == 0, log.read_text()
        pid = int((rundir.path / "lttng-sessiond.pid").read_text())
        try:
            yield Lttng(rundir)
        finally:
            processes.end(pid)


@contextlib.contextmanager
def lttng_record(
    command: Sequence[str | os.PathLike[str]],
    *,
    channel: Sequence[str] = (),
    events: Sequence[str] = ("--all",),
    contexts: Sequence[str] = ("vpid", "vtid", "procname"),
    **options: Any,
) -> Iterator[Path]:
    """Record a program with the real LTTng; yield the directory of the trace.

    Parameters
    ----------
    channel : sequence of str
        Options of ``lttng enable-channel``.
    events : sequence of str
        Arguments of ``lttng enable-event``.
    **options
        How the program is run: of `subprocess.run`.
    """
    with lttng_sessiond() as lttng:
        output = lttng.rundir.home / "trace"
        lttng("create", "recorded", "-o", output)
        lttng("enable-channel", "--userspace", *channel, "channel0")
        lttng("enable-event", "--userspace", "--channel=channel0", *events)
        for context in contexts:
            lttng("add-context", "--userspace", "--channel=channel0", f"--type={context}")
        lttng("start")
        result = lttng.rundir.run(command, **options)
        assert result.returncode == 0, result.stderr
        lttng("stop")
        lttng("destroy")
        yield output
