# SPDX-License-Identifier: MIT
"""The trace chunks of a session that was rotated."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from helpers.registry import until
from helpers.rundir import Rundir
from helpers.sides import events_of

from ustconsumer.client.session import Session
from ustconsumer.protocol.control import ChannelOptions

__all__ = [
    "babeltrace2_lines",
    "chunks",
    "events_once",
    "rotate_while_it_is_killed",
    "without_dates",
]

_DATE = re.compile(r"\d{8}-\d{6}|\d{8}T\d{6}[+-]\d{4}")
_PID = re.compile(r"steps-\d+-")


def without_dates(name: str) -> str:
    """Return a path as it is in every run."""
    return _PID.sub("steps-PID-", _DATE.sub("DATE", name))


def babeltrace2_lines(output: Path) -> list[str]:
    """Return the events of a large trace, as babeltrace2 prints them."""
    result = subprocess.run(["babeltrace2", output], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def chunks(output: Path) -> dict[str, list[str]]:
    """Return the events of every chunk, by its directory without dates."""
    found = {}
    for directory in sorted({path.parent for path in output.rglob("metadata*")}):
        name = without_dates(str(directory.relative_to(output)))
        found[name] = events_of(directory)
    return found


def rotate_while_it_is_killed(
    session: Session, rundir: Rundir, program: Sequence[str | Path], seed: int
) -> int:
    """Record a program that emits flood:tick, and kill three consumers that rotate.

    Returns
    -------
    int
        Events that were discarded.
    """
    chance = random.Random(seed)  # noqa: S311
    session.enable_channel("c", ChannelOptions(subbuf_size=4096, num_subbuf=256))
    session.enable_event("flood:tick", "c")
    session.start()
    running = rundir.start(program)
    until(lambda: session.info().streams, "the program has buffers")
    # One that dies more often has no successor.
    for _ in range(3):
        killed = _consumer_pid(session)
        killer = threading.Timer(chance.uniform(0, 0.03), os.kill, (killed, signal.SIGKILL))
        killer.start()
        assert session.rotate().complete
        killer.join()
        until(partial(_has_successor, session, killed), "a successor")
    assert running.wait() == 0
    session.stop()
    return session.info().channels[0].discarded


def events_once(lines: Sequence[str], lost: int, emitted: int) -> None:
    """Check that each flood:tick was recorded once or is among those that were lost."""
    found = [re.search(r"seq = (\d+), thread = (\d+)", line) for line in lines]
    seen = {match.groups() for match in found if match}
    assert len(lines) == len(seen)
    assert len(lines) + lost == emitted


def _has_successor(session: Session, killed: int) -> bool:
    return _consumer_pid(session) not in (0, killed)


def _consumer_pid(session: Session) -> int:
    consumer = session.info().consumer
    return consumer.pid if consumer else 0
