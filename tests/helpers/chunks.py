# SPDX-License-Identifier: MIT
"""The trace chunks of a session that was rotated."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from helpers.sides import events_of

from ustconsumer.client.session import Session

__all__ = ["babeltrace2_lines", "chunks", "consumer_pid", "without_dates"]

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


def consumer_pid(session: Session) -> int:
    """Return its pid, 0 if there is none."""
    consumer = session.info().consumer
    return consumer.pid if consumer else 0
