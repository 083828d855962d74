# SPDX-License-Identifier: MIT
"""What tests need of the machine: the real programs and libraries, namespaces."""

from __future__ import annotations

import ctypes.util
import functools
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

__all__ = ["PEERS", "missing", "need", "need_namespaces"]


def _program(name: str) -> bool:
    return shutil.which(name) is not None


def _ust_headers() -> bool:
    """Ask the compiler: the headers live in a directory that differs between releases."""
    if not _program("gcc"):
        return False
    command = ["gcc", "-E", "-include", "lttng/tracepoint.h", "-xc", "/dev/null"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


#: name -> how to find out whether it is there
PEERS: dict[str, Callable[[], bool]] = {
    "gcc": lambda: _program("gcc"),
    "cython": lambda: importlib.util.find_spec("Cython") is not None,
    "lttng": lambda: _program("lttng"),
    "lttng-sessiond": lambda: _program("lttng-sessiond"),
    "babeltrace2": lambda: _program("babeltrace2"),
    "zstd": lambda: _program("zstd"),
    "lttng-crash": lambda: _program("lttng-crash"),
    "lttng-ust-headers": _ust_headers,
    # Debian's Python has it, not the one the tests run with.
    "python3-lttngust": lambda: Path("/usr/lib/python3/dist-packages/lttngust").is_dir(),
    "liblttng-ust-ctl": lambda: ctypes.util.find_library("lttng-ust-ctl") is not None,
}


@functools.cache
def missing(name: str) -> bool:
    """Return whether a peer is absent from this machine."""
    return not PEERS[name]()


def need(*names: str) -> None:
    """Skip the running test if a peer is absent; with ``PEERS=require`` fail it."""
    absent = [name for name in names or tuple(PEERS) if missing(name)]
    if not absent:
        return
    reason = f"not installed: {', '.join(absent)} (as root, .ci/peers.sh installs them)"
    if os.environ.get("PEERS") == "require":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def need_namespaces(*options: str) -> None:
    """Skip the test where this user may not make namespaces (options of ``unshare``)."""
    made = subprocess.run(["unshare", *options, "true"], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no namespaces here: {made.stderr.decode().strip()}")
