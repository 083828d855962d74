# SPDX-License-Identifier: MIT
"""Run programs as an ordinary user, also when the tests run as root."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["User", "ordinary_user", "ordinary_user_alone", "tester"]

#: What an interpreter must be able to do to run our programs: import what they need, and
#: start itself again (setpriv still has root's rights when it starts the first one).
_PROBE = """
import subprocess, sys
if len(sys.argv) > 2:
    import msgspec, numpy, uvloop, zstandard, ustconsumer, ustconsumer._native.ring
    sys.exit(ustconsumer.__file__ != sys.argv[1])
sys.exit(subprocess.run([sys.executable, "-P", *sys.orig_argv[-3:], "again"]).returncode)
"""


#: No passwd entry has or needs them.
_FIRST_UID = 42420
_claims: list[socket.socket] = []


class User:
    """How to run a program with the credentials of a uid.

    Parameters
    ----------
    uid, gid : int
        Need no passwd entry.
    prefix : sequence of str
        Goes in front of every command; empty when nothing has to change.
    """

    def __init__(self, uid: int, gid: int, prefix: Sequence[str] = ()):
        self.uid = uid
        self.gid = gid
        self._prefix = list(prefix)

    @property
    def ordinary(self) -> bool:
        return self.uid != 0

    def argv(self, command: Sequence[str | os.PathLike[str]]) -> list[str]:
        """Return the command line that runs ``command`` as this user, in the same process."""
        return [*self._prefix, *(os.fspath(word) for word in command)]

    def python(self, *arguments: str | os.PathLike[str]) -> list[str]:
        """Return the command line of a Python that can import this package, as this user."""
        if not self._prefix:
            return [sys.executable, "-P", *(os.fspath(word) for word in arguments)]
        return [*_python_prefix(self.uid, self.gid), "-P", *(os.fspath(word) for word in arguments)]

    def environment(self) -> dict[str, str]:
        """Return what must be in the environment of `python`."""
        return dict(_python_environment(self.uid, self.gid)) if self._prefix else {}


def tester() -> User:
    """Return the user that runs the tests."""
    return User(os.getuid(), os.getgid())


@functools.cache
def ordinary_user() -> User:
    """Return a user that is not root: the tester, or one that no other test process has."""
    if os.getuid():
        return tester()
    for uid in range(_FIRST_UID, _FIRST_UID + 64):
        claim = _claim(uid)
        if claim is not None:
            _claims.append(claim)
            return User(uid, uid, _setpriv(uid, uid))
    raise AssertionError("every uid for tests is taken")


@contextlib.contextmanager
def ordinary_user_alone() -> Iterator[User]:
    """Give `ordinary_user` to one test at a time.

    The wait word of liblttng-ust is per uid: tests that share a uid and run at the same
    time would see each other's registries come and go.
    """
    user = ordinary_user()
    if _claims:
        # For good, or by a fixture of the same test.
        yield user
        return
    # One test has it for its time, not a process for good: there is no other uid.
    while (claim := _claim(user.uid)) is None:
        time.sleep(0.02)
    _claims.append(claim)
    try:
        yield user
    finally:
        _claims.remove(claim)
        claim.close()


def _claim(uid: int) -> socket.socket | None:
    """Return what nobody else has while it is open; None if somebody has it."""
    # A name in the abstract namespace leaves no file.
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0ustconsumer-test-uid-{uid}")
    except OSError:
        claim.close()
        return None
    return claim


def _setpriv(uid: int, gid: int, *options: str) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *options]


def _import_path() -> str:
    """Return the directories from which this interpreter imports us and what we need."""
    import ustconsumer

    places = [Path(ustconsumer.__file__).parent.parent]
    for name in ("msgspec", "numpy", "uvloop", "zstandard"):
        places.append(Path(str(importlib.metadata.distribution(name).locate_file(""))))
    return os.pathsep.join(dict.fromkeys(map(str, places)))


@functools.cache
def _interpreter(uid: int, gid: int) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return (command, environment) of a Python that runs as this uid.

    The tests' own interpreter may live below a directory that only root can enter.
    """
    import ustconsumer

    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    own = {"PYTHONPATH": _import_path()}
    # Reading everything is the one privilege of the last resort; it owns and signals nothing more.
    reader = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    candidates = [
        ([*_setpriv(uid, gid), sys.executable], {}),
        ([*_setpriv(uid, gid), sys.executable], own),
        ([*_setpriv(uid, gid), system], own),
        ([*_setpriv(uid, gid, *reader), sys.executable], own),
    ]
    complaints = []
    for command, environment in candidates:
        probe = [*command, "-P", "-c", _PROBE, str(ustconsumer.__file__)]
        result = subprocess.run(
            probe,
            env={"PATH": os.defpath, "HOME": "/", **environment},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode == 0:
            return tuple(command), tuple(environment.items())
        complaints.append(f"{' '.join(command)}: {result.stderr.strip()[-300:]}")
    raise AssertionError("no Python runs as an ordinary user:\n" + "\n".join(complaints))


def _python_prefix(uid: int, gid: int) -> tuple[str, ...]:
    return _interpreter(uid, gid)[0]


def _python_environment(uid: int, gid: int) -> tuple[tuple[str, str], ...]:
    return _interpreter(uid, gid)[1]
