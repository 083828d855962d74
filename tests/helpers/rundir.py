# SPDX-License-Identifier: MIT
"""A private home for one test: everything started in it ends with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from helpers import processes
from helpers.users import User

__all__ = ["Rundir", "private_rundir"]

#: Marks every process of a test, whatever it does to its home.
MARK = "USTCONSUMER_TEST_HOME"
_DRTRACE = "import sys; from ustconsumer.cli import main; sys.exit(main())"
Command = Sequence[str | os.PathLike[str]]


class Rundir(os.PathLike[str]):
    """Home and run directory of one test, and the processes it started.

    Parameters
    ----------
    home : Path
        Short, so that socket paths fit; owned by ``user``.
    user : User
        Who the programs run as.
    """

    def __init__(self, home: Path, user: User):
        self.home = home
        self.user = user
        self.path = home / ".lttng"
        self.tmp = home / "tmp"
        self._started: list[subprocess.Popen[Any]] = []
        self.tmp.mkdir(mode=0o700)
        for directory in (home, self.tmp):
            os.chown(directory, user.uid, user.gid)

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def env(self) -> dict[str, str]:
        """Environment of the programs: that of the tests, with everything private set."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LTTNG_", "DRTRACE_", "XDG_")) and name != "LD_PRELOAD"
        }
        home = str(self.home)
        private = {"HOME": home, "LTTNG_HOME": home, "TMPDIR": str(self.tmp), MARK: home}
        return {**kept, **private, **self.user.environment()}

    def start(self, command: Command, **options: Any) -> subprocess.Popen[Any]:
        """Start a program as the user; the end of the test ends it at the latest.

        ``env`` adds to the private environment.
        """
        options["env"] = {**self.env, **(options.get("env") or {})}
        options.setdefault("cwd", self.home)
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(self.user.argv(command), **options)
        self._started.append(process)
        return process

    def start_as_it_is(
        self, command: Sequence[str], env: dict[str, str], **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a command as the tester, with nothing added; ended as in `start`."""
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(command, env=env, cwd="/", **options)
        self._started.append(process)
        return process

    def run(self, command: Command, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program as the user to its end, its output captured as text."""
        return self._finish(self.user.argv(command), options)

    def run_python(
        self, *arguments: str | os.PathLike[str], **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run the tests' Python (or one like it) as the user to its end, its output captured."""
        return self._finish(self.user.python(*arguments), options)

    def drtrace(self, *arguments: str | os.PathLike[str], **options: Any) -> Any:
        """Run ``drtrace`` as the user to its end, its output captured as text."""
        return self._finish(self.drtrace_argv(*arguments), options)

    def drtrace_argv(self, *arguments: str | os.PathLike[str]) -> list[str]:
        """Return the command line of ``drtrace`` (of the tested package, as the user)."""
        return self.user.python("-c", _DRTRACE, *arguments)

    def start_drtrace(
        self, *arguments: str | os.PathLike[str], **options: Any
    ) -> subprocess.Popen[Any]:
        """Start ``drtrace`` as the user; the end of the test ends it at the latest."""
        return self.start_python("-c", _DRTRACE, *arguments, **options)

    def start_python(
        self, *arguments: str | os.PathLike[str], **options: Any
    ) -> subprocess.Popen[Any]:
        """Start the tests' Python (or one like it) as the user, as in `start`.

        ``prefix`` is a command of the tester that runs its command line.
        """
        prefix = options.pop("prefix", ())
        options["env"] = {**self.env, **(options.get("env") or {})}
        options.setdefault("cwd", self.home)
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen([*prefix, *self.user.python(*arguments)], **options)
        self._started.append(process)
        return process

    def _finish(self, argv: list[str], options: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        options["env"] = {**self.env, **(options.get("env") or {})}
        options.setdefault("cwd", self.home)
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("text", True)
        options.setdefault("check", False)
        return subprocess.run(argv, **options)

    def end(self) -> list[str]:
        """End what was started; return what was left although it should not be."""
        for process in reversed(self._started):
            processes.end(process.pid)
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        left = []
        for pid in self._lingering():
            left.append(f"process {pid}: {processes.command_line(pid)}")
            processes.end(pid)
        left += [f"socket {path}" for path in self._sockets()]
        left += [f"temporary file {path}" for path in self.tmp.iterdir()]
        return left

    def _lingering(self) -> list[int]:
        """Return the processes of this test that do not go away by themselves."""
        # What was asked to end may need a moment; only what stays is a fault.
        deadline = time.monotonic() + 10
        while pids := processes.marked(MARK, str(self.home)):
            if time.monotonic() > deadline:
                return pids
            time.sleep(0.02)
        return []

    def _sockets(self) -> Iterator[Path]:
        for directory, _, names in os.walk(self.home):
            for name in names:
                path = Path(directory, name)
                with contextlib.suppress(FileNotFoundError):
                    if stat.S_ISSOCK(path.lstat().st_mode):
                        yield path


@contextlib.contextmanager
def private_rundir(user: User) -> Iterator[Rundir]:
    """Give a test its own home under /tmp; nothing of it may be left at the end."""
    home = Path(tempfile.mkdtemp(prefix="ust-", dir="/tmp"))
    try:
        rundir = Rundir(home, user)
        try:
            yield rundir
        finally:
            left = rundir.end()
        assert not left, f"left behind: {left}"
    finally:
        shutil.rmtree(home, ignore_errors=True)
