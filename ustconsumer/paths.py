# SPDX-License-Identifier: MIT
"""Where the sockets, locks and traces of this machine live.

Plain strings: every verb of ``drtrace`` needs them, and importing pathlib costs 4 ms.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ustconsumer.errors import UsageError

__all__ = [
    "APPS_SOCKET",
    "CONTROL_SOCKET",
    "GLOBAL_RUNDIR",
    "LTTNG_LOCK",
    "LTTNG_PID",
    "default_rundir",
    "home",
    "possible_cpus",
    "traces_dir",
    "user_rundir",
    "wait_word_path",
]

#: Applications with ABI 8 to 10 connect here, in the rundir.
APPS_SOCKET = "lttng-ust-sock-8"
#: Our own control socket, in the rundir.
CONTROL_SOCKET = "drtrace.sock"
#: A real lttng-sessiond refuses to start while this file is locked.
LTTNG_LOCK = "lttng-sessiond.lck"
#: Where a live lttng-sessiond writes its pid.
LTTNG_PID = "lttng-sessiond.pid"
GLOBAL_RUNDIR = "/var/run/lttng"


def home(env: Mapping[str, str] = os.environ) -> str:
    """Return the directory that holds ``.lttng``: LTTNG_HOME, else HOME.

    Raises
    ------
    UsageError
        Neither variable is set.
    """
    for name in ("LTTNG_HOME", "HOME"):
        if env.get(name):
            return env[name]
    raise UsageError("neither LTTNG_HOME nor HOME is set: set one of them")


def user_rundir(env: Mapping[str, str] = os.environ) -> str:
    """Return the run directory of the per-user registry, which liblttng-ust also looks in."""
    return os.path.join(home(env), ".lttng")


def default_rundir(
    override: str | None = None, env: Mapping[str, str] = os.environ, uid: int | None = None
) -> str:
    """Return the run directory a registry of this user owns.

    Parameters
    ----------
    override : str, optional
        Value of ``--rundir``; beats everything else.
    uid : int, optional
        Default: the real uid of this process. Root owns the global registry.
    """
    if override:
        return override
    if env.get("LTTNG_UST_CTL_PATH"):
        return env["LTTNG_UST_CTL_PATH"]
    if (os.getuid() if uid is None else uid) == 0:
        return GLOBAL_RUNDIR
    return user_rundir(env)


def traces_dir(env: Mapping[str, str] = os.environ) -> str:
    """Return the default parent directory of traces."""
    return os.path.join(home(env), "lttng-traces")


def wait_word_path(uid: int | None) -> str:
    """Return the wait word of a uid's applications; ``None`` means the global one.

    The file belongs to liblttng-ust: it may be created and written, never unlinked.
    """
    # Where the C library's shm_open puts it, not a temporary file of ours.
    name = "lttng-ust-wait-8" if uid is None else f"lttng-ust-wait-8-{uid}"
    return os.path.join("/dev/shm", name)  # noqa: S108


def possible_cpus(path: str = "/sys/devices/system/cpu/possible") -> int:
    """Return the number of possible CPUs as liblttng-ust counts them: highest number + 1."""
    with open(path, encoding="ascii") as file:
        return int(file.read().strip().replace(",", "-").split("-")[-1]) + 1
