# SPDX-License-Identifier: MIT
"""A Python program that does what a test tells it, line by line."""

from __future__ import annotations

import ast
import select
import subprocess
from typing import Any

from helpers.rundir import Rundir

__all__ = ["ONE_PLACE", "Puppet"]

_PROGRAM = """
import sys
def _obey():
    names = {"__name__": "__main__"}
    while line := sys.stdin.buffer.readline():
        source = eval(line)
        names["answer"] = None
        exec(source, names)
        sys.stdout.write(repr(names["answer"]) + "\\n")
        sys.stdout.flush()
_obey()
"""

#: Looks for one registry only: below ``.lttng`` of its home, with a wait word beside it.
ONE_PLACE = """
import os
from ustconsumer.tracer import listener as module
from ustconsumer.tracer.process import process
from ustconsumer.tracer.rendezvous import Place
home = os.environ["HOME"]
listener = module.listener
module.places = lambda: [Place(home + "/.lttng", home + "/word")]
def tasks():
    return sorted(map(int, os.listdir("/proc/self/task")))
def switches():
    counts = []
    for tid in tasks():
        with open(f"/proc/self/task/{tid}/status") as file:
            status = dict(line.split(":", 1) for line in file)
        if status["Name"].strip().endswith("-ust"):
            counts.append((tid, int(status["voluntary_ctxt_switches"])))
    return counts
def asleep():
    ((tid, _),) = switches()
    with open(f"/proc/self/task/{tid}/syscall") as file:
        return file.read().split()[0] in ("449", "7")  # futex_waitv, poll
"""


class Puppet:
    """The program; it ends with `close`, or with its test.

    Parameters
    ----------
    rundir : Rundir
        Its home.
    options : str
        For the interpreter. Whatever it prints to stderr is an error of the test.
    env : dict, optional
    """

    def __init__(self, rundir: Rundir, *options: str, env: dict[str, str] | None = None) -> None:
        self._errors = rundir.home / "errors"
        with open(self._errors, "ab") as errors:
            self.process: subprocess.Popen[bytes] = rundir.start_python(
                *options,
                "-c",
                _PROGRAM,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=env or {},
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def begin(self, source: str) -> None:
        """Have it execute something; `answer` waits for the end of that."""
        assert self.process.stdin
        self.process.stdin.write(repr(source).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Return what the source begun last assigned to ``answer``."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, (self.process.wait(), self.errors())
        return ast.literal_eval(line.decode())

    def ready(self) -> bool:
        """Tell whether an answer is there."""
        assert self.process.stdout
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def do(self, source: str) -> Any:
        """Have it execute something, and wait."""
        self.begin(source)
        return self.answer()

    def eval(self, expression: str) -> Any:
        """Return the value of an expression there."""
        return self.do(f"answer = {expression}")

    def close(self) -> None:
        """Let it end as programs do; it must end well and silently."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait() == 0, self.errors()
        assert self.errors() == ""

    def errors(self) -> str:
        """Return what it has printed to stderr."""
        return self._errors.read_text()
