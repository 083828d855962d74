# SPDX-License-Identifier: MIT
"""A program that goes step by step, under LTTng and under us, with the same verbs."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from helpers.babeltrace import babeltrace2_text
from helpers.lttng import lttng_sessiond
from helpers.registry import running_registry
from helpers.rundir import Rundir, private_rundir
from helpers.users import User

__all__ = ["Side", "Steps", "events_of", "lttng_side", "our_side"]


class Steps:
    """A running ``steps``: every step emits one steps:tick and one steps:tock."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    def step(self, count: int = 1) -> None:
        assert self.process.stdin
        assert self.process.stdout
        for _ in range(count):
            self.process.stdin.write("step\n")
            self.process.stdin.flush()
            assert self.process.stdout.readline() == "step\n"

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait() == 0


class Side:
    """LTTng's side, or ours: its verbs, and programs that it traces.

    Attributes
    ----------
    output : Path
        Of the session ``s``.
    """

    def __init__(self, rundir: Rundir, program: Path, argv: Callable[..., list[str]]):
        self.rundir = rundir
        self.output = rundir.home / "trace"
        self._program = program
        self._argv = argv

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb, whatever comes of it."""
        return subprocess.run(
            self._argv(*arguments),
            env=self.rundir.env,
            cwd=self.rundir.home,
            capture_output=True,
            text=True,
            check=False,
        )

    def do(self, *arguments: str) -> str:
        """Run a verb that must succeed."""
        result = self(*arguments)
        assert result.returncode == 0, (arguments, result.stdout, result.stderr)
        return result.stdout

    def start(self) -> Steps:
        """Start a program that waits for its first step."""
        pipe = subprocess.PIPE
        return Steps(self.rundir.start([self._program], stdin=pipe, stdout=pipe, text=True))

    def events(self) -> list[str]:
        """Return what was recorded: event, fields, contexts but the time and the CPU."""
        lines = babeltrace2_text(self.output).lines
        return [
            line.split(": ", 1)[0].rpartition(" ")[2] + line.partition("},")[2] for line in lines
        ]


def events_of(directory: Path) -> list[str]:
    """Return the events of a trace: name, fields, contexts, but no time and no CPU."""
    lines = babeltrace2_text(directory).lines
    heads = [line.split(": ", 1)[0].rpartition(" ")[2] for line in lines]
    return [head + line.partition("},")[2] for head, line in zip(heads, lines, strict=True)]


@contextlib.contextmanager
def lttng_side(program: Path) -> Iterator[Side]:
    with lttng_sessiond() as lttng:
        user = lttng.rundir.user
        yield Side(
            lttng.rundir, program, lambda *each: user.argv(["lttng", "--no-sessiond", *each])
        )


@contextlib.contextmanager
def our_side(program: Path, user: User) -> Iterator[Side]:
    with private_rundir(user) as rundir, running_registry(rundir):
        yield Side(rundir, program, rundir.drtrace_argv)
