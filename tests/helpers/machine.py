# SPDX-License-Identifier: MIT
"""A machine of its own for a test of the global registry: its place, its wait word, its users.

Mounts that only the test's own processes see: the registry of the real machine, if it has
one, is not disturbed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.peers import need_namespaces
from helpers.registry import until
from helpers.rundir import Rundir
from helpers.users import User

__all__ = ["GROUP", "Account", "Machine", "own_machine"]

GROUP = "ust-tracing"
_GROUP_ID = 42469
_FIRST_UID = 42470
_DRTRACE = "import sys; from ustconsumer.cli import main; sys.exit(main())"
_VERBS = """
import shlex, sys
from ustconsumer.cli import main
for line in sys.argv[1:]:
    if status := main(["-q", *shlex.split(line)]):
        sys.exit(f"{line}: {status}")
"""
#: Until its stdin is closed.
_MOUNTS = """
mount -t tmpfs none /run && mount -t tmpfs none /dev/shm &&
mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group && echo there && exec cat
"""
Command = Sequence[str | os.PathLike[str]]


class Account(User):
    """A user of such a machine, with a home and groups."""

    def __init__(self, name: str, uid: int, home: Path, tracing: bool, enter: list[str]):
        groups = f"--groups={_GROUP_ID}" if tracing else "--clear-groups"
        credentials = ["setpriv", f"--reuid={uid}", f"--regid={uid}", groups] if uid else []
        super().__init__(uid, uid, [*enter, *credentials])
        self.name = name
        self.home = home
        self.tracing = tracing
        self._enter = enter
        home.mkdir(mode=0o755)
        os.chown(home, uid, uid)

    def python(self, *arguments: str | os.PathLike[str]) -> list[str]:
        # Root's, too, is one that everybody can run: its consumers import as somebody else.
        plain = User(_FIRST_UID, _FIRST_UID, ["used"]).python(*arguments)
        if not self.uid:
            del plain[: next(at for at, word in enumerate(plain) if "python" in word)]
        changed = {
            f"--reuid={_FIRST_UID}": f"--reuid={self.uid}",
            f"--regid={_FIRST_UID}": f"--regid={self.uid}",
        }
        if self.tracing:
            changed["--clear-groups"] = f"--groups={_GROUP_ID}"
        return [*self._enter, *(changed.get(word, word) for word in plain)]

    def environment(self) -> dict[str, str]:
        """Return all that its programs have; LTTng's own variables are not set."""
        python = User(_FIRST_UID, _FIRST_UID, ["used"]).environment()
        return {**python, "HOME": str(self.home)}


class Machine:
    """What runs on such a machine is started through it."""

    #: Of the group `GROUP`.
    group_id = _GROUP_ID

    def __init__(self, rundir: Rundir, holder: int):
        self._rundir = rundir
        #: the process that keeps it
        self.holder = holder
        self._enter = enter = ["nsenter", f"--mount=/proc/{holder}/ns/mnt", "--"]
        self._next = _FIRST_UID
        self.root = Account("root", 0, rundir.home / "root", False, enter)

    def account(self, name: str, *, tracing: bool = False) -> Account:
        """Add a user."""
        uid, self._next = self._next, self._next + 1
        home = self._rundir.home / name
        with open(self._rundir.home / "passwd", "a", encoding="ascii") as file:
            file.write(f"{name}:x:{uid}:{uid}::{home}:/bin/sh\n")
        made = Account(name, uid, home, tracing, self._enter)
        if tracing:
            path = self._rundir.home / "group"
            path.write_text(f"{path.read_text().rstrip()}{name},\n", encoding="ascii")
        return made

    def env(self, account: Account) -> dict[str, str]:
        env = {**self._rundir.env, **account.environment()}
        del env["LTTNG_HOME"]
        return env

    def start(self, account: Account, command: Command, **options: Any) -> subprocess.Popen[Any]:
        """Start a program as a user; the end of the test ends it at the latest."""
        return self._rundir.start_as_it_is(account.argv(command), self.env(account), **options)

    def start_python(
        self, account: Account, *arguments: str | os.PathLike[str], **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a Python that can import this package, as in `start`."""
        command = account.python(*arguments)
        return self._rundir.start_as_it_is(command, self.env(account), **options)

    def drtrace(
        self, account: Account, *arguments: str | os.PathLike[str]
    ) -> subprocess.CompletedProcess[str]:
        """Run ``drtrace`` as a user to its end."""
        return subprocess.run(
            account.python("-c", _DRTRACE, *arguments),
            env=self.env(account),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def do(self, account: Account, *arguments: str | os.PathLike[str]) -> str:
        """Run ``drtrace`` as a user; it must succeed without a word of complaint."""
        result = self.drtrace(account, *arguments)
        assert (result.returncode, result.stderr) == (0, ""), result
        return result.stdout

    def verbs(self, account: Account, *lines: str) -> None:
        """Run verbs of ``drtrace`` as a user, in one process; none may fail or warn."""
        command = account.python("-c", _VERBS, *lines)
        result = subprocess.run(
            command, env=self.env(account), cwd="/", capture_output=True, text=True, check=False
        )
        assert (result.returncode, result.stderr) == (0, ""), result

    def applications(self, account: Account) -> dict[int, dict[str, Any]]:
        """Return what a user is told of programs, by pid."""
        listed = json.loads(self.do(account, "--json", "apps"))
        return {app["pid"]: app for app in listed}

    @contextlib.contextmanager
    def registry(self, account: Account, *options: str) -> Iterator[subprocess.Popen[Any]]:
        """Run the registry that a user starts without another word; it must end well."""
        log = account.home / "registry.log"
        command = ("-m", "sessiond", "--group", GROUP, *options)
        with open(log, "wb") as file:
            process = self.start_python(account, *command, stderr=file)
        until(lambda: self._answers(account, process), "the registry answers")
        yield process
        process.terminate()
        assert process.wait() == 0, log.read_text()

    def _answers(self, account: Account, process: subprocess.Popen[Any]) -> bool:
        assert process.poll() is None
        said = self.drtrace(account, "-vn", "list").stderr
        return f"pid {process.pid}, " in said


@contextlib.contextmanager
def own_machine(rundir: Rundir) -> Iterator[Machine]:
    """Make one; skip the test for who may not."""
    if os.getuid():
        pytest.skip("only root has a machine of its own")
    need_namespaces("-m")
    (rundir.home / "passwd").write_text(Path("/etc/passwd").read_text())
    (rundir.home / "group").write_text(f"{Path('/etc/group').read_text()}{GROUP}:x:{_GROUP_ID}:\n")
    rundir.home.chmod(0o755)
    databases = [str(rundir.home / name) for name in ("passwd", "group")]
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-c", _MOUNTS, "sh", *databases],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=rundir.env,
        text=True,
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "there\n"
        yield Machine(rundir, holder.pid)
        assert holder.stdin
        holder.stdin.close()
