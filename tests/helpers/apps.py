# SPDX-License-Identifier: MIT
"""The traced C programs of ``tests/apps``, compiled once per test run."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

__all__ = ["Apps", "build"]

SOURCES = Path(__file__).resolve().parent.parent / "apps"
_TRACER = ("-llttng-ust",)
#: Those that are built otherwise than with the tracer: without it, as a library ...
_FLAGS = {
    "calls": ("-finstrument-functions",),
    "late": (),
    "late_provider": ("-shared", "-fPIC", *_TRACER),
}


class Apps:
    """Paths of the compiled programs; each attribute is one of ``tests/apps/*.c``."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.flood = directory / "flood"
        self.fields = directory / "fields"
        self.sleeper = directory / "sleeper"
        self.barefork = directory / "barefork"
        self.daemonise = directory / "daemonise"
        self.late = directory / "late"
        self.late_provider = directory / "late_provider"
        self.calls = directory / "calls"
        self.ros2 = directory / "ros2"
        self.sized = directory / "sized"
        self.crasher = directory / "crasher"
        self.filters = directory / "filters"
        self.progress = directory / "progress"
        self.steps = directory / "steps"


def build(directory: Path) -> Apps:
    """Compile what is not there yet; several processes may call this at once.

    Programs end up world-readable, so that an ordinary user can run them.
    """
    directory.chmod(0o755)
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for source in sorted(SOURCES.glob("*.c")):
            program = directory / source.stem
            if not program.exists():
                _compile(source, program)
    return Apps(directory)


def _compile(source: Path, program: Path) -> None:
    # Renamed into place: a half-written program must not pass for a compiled one.
    unfinished = program.with_suffix(".new")
    command = ["gcc", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", f"-I{SOURCES}"]
    command += ["-o", str(unfinished), str(source)]
    command += [*_FLAGS.get(source.stem, _TRACER), "-ldl", "-pthread"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr}"
    assert not result.stderr, result.stderr
    unfinished.chmod(0o755)
    os.rename(unfinished, program)
