# SPDX-License-Identifier: MIT
"""The program `record` runs: found, checked before anything is set up, and explained afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from ustconsumer.client.elf import inspect, needs
from ustconsumer.client.output import OUTER_HOME, outer_home
from ustconsumer.errors import DecodeError, UsageError
from ustconsumer.paths import home as user_home

__all__ = ["ProgramError", "environment", "is_python", "resolve", "why_not_registered"]

_LAUNCHERS = frozenset({"env", "sudo", "su", "doas", "runuser", "setpriv", "ssh", "systemd-run"})


class ProgramError(UsageError):
    """The program cannot be run.

    Parameters
    ----------
    message : str
        One line.
    status : int
        127 not found, 126 not executable: what a shell would exit with.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def resolve(name: str, env: Mapping[str, str] = os.environ) -> Path:
    """Return the file that running ``name`` would execute.

    Raises
    ------
    ProgramError
        There is none, or none that may be executed.
    """
    if "/" in name:
        candidates = [Path(name)]
    else:
        path = env.get("PATH", os.defpath)
        candidates = [Path(place or ".") / name for place in path.split(os.pathsep)]
    found: Path | None = None
    for candidate in candidates:
        # os.path: a directory of PATH that we may not enter is one that does not have it.
        is_file = os.path.isfile(candidate)
        if is_file and os.access(candidate, os.X_OK, effective_ids=True):
            return candidate
        if found is None and (is_file or ("/" in name and os.path.lexists(candidate))):
            found = candidate
    if found is None:
        where = "no such file" if "/" in name else "not in PATH"
        raise ProgramError(f"{name}: program not found ({where}): check its name", 127)
    if os.path.isdir(found):
        raise ProgramError(f"{found}: is a directory, not a program", 126)
    if not os.path.exists(found):
        raise ProgramError(f"{found}: program not found (dangling link): check its name", 127)
    raise ProgramError(f"{found}: not executable: `chmod +x` it, or name its interpreter", 126)


def environment(
    program: Path, home: Path, env: Mapping[str, str], preload: Sequence[str] = ()
) -> dict[str, str]:
    """Return the environment that leads ``program`` to the registry of ``home``.

    Parameters
    ----------
    preload : sequence of str
        Paths of libraries, loaded before those that ``env`` names already.
    """
    made = {**env, "LTTNG_HOME": str(home)}
    with contextlib.suppress(UsageError):
        made[OUTER_HOME] = f"{home}:{user_home(outer_home(env))}"
    given = env.get("LD_PRELOAD", "")
    if _is_native(program):
        names = {_stem(library) for library in re.split("[: ]", given)}
        added = [library for library in preload if _stem(library) not in names]
        if added:
            made["LD_PRELOAD"] = ":".join([*added, given] if given else added)
    return made


def why_not_registered(program: Path) -> str:
    """Return one clause that says why no process of a program registered."""
    name = program.name
    try:
        elf = inspect(program)
        mode = program.stat()
    except (OSError, DecodeError) as error:
        return f"{name} cannot be examined ({error})"
    other = (mode.st_mode & stat.S_ISUID and mode.st_uid != os.getuid()) or (
        mode.st_mode & stat.S_ISGID and mode.st_gid != os.getgid()
    )
    if other:
        return f"{name} is set-uid or set-gid, so liblttng-ust ignores LTTNG_HOME in it"
    if name in _LAUNCHERS:
        return f"{name} may have cleared the environment: keep LTTNG_HOME and LD_PRELOAD"
    if is_python(program):
        return (
            f"{name} made no ustconsumer.tracer.Provider and loaded no liblttng-ust: "
            "--python-calls records the calls of any Python program"
        )
    if elf is None:
        return f"{name} is a script, and nothing it ran loaded liblttng-ust"
    if elf.bits == 32:
        return f"{name} is a 32-bit program, which is not supported yet"
    if not elf.dynamic:
        return f"{name} is statically linked: link it with liblttng-ust dynamically"
    if not needs(program, "liblttng-ust.so"):
        return f"{name} never loaded liblttng-ust: it is not linked with it"
    return f"{name} may have cleared the environment, or ended before it registered"


def is_python(program: Path) -> bool:
    """Return whether a program is a Python interpreter, or a script for one."""
    if re.fullmatch(r"(python|pypy)[\d.]*", program.name):
        return True
    with contextlib.suppress(OSError), open(program, "rb") as file:
        return bool(re.match(rb"#!\S*(/|/env +)python", file.readline(256)))
    return False


def _stem(library: str) -> str:
    return os.path.basename(library).partition(".so")[0]


def _is_native(program: Path) -> bool:
    """Whether the dynamic linker would accept our 64-bit library in it (it complains otherwise)."""
    try:
        elf = inspect(program)
    except (OSError, DecodeError):
        return False
    return elf is None or elf.bits == 64
