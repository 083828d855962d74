# SPDX-License-Identifier: MIT
"""A build of ``_native.ring`` with kill points, and a consumer that runs on it.

``python -P -m helpers.killbuild MODULE POINT PASSES GATE ARGUMENT...`` is ``ust-consumerd
ARGUMENT...`` that kills itself when it passes the point for the ``PASSES``-th time. Once
all is loaded it writes a line and waits until the file ``GATE`` exists.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from types import ModuleType

__all__ = ["NAME", "SOURCES", "build_kill_ring", "load", "points_in_sources"]

NAME = "ustconsumer._native.ring"
SOURCES = Path(__file__).resolve().parents[2] / "ustconsumer" / "_native"
_FUNCTIONS = Path(__file__).with_name("killpoints.pxi")


def points_in_sources() -> list[str]:
    """Return the names that the sources of the module give to kill points, sorted."""
    text = (SOURCES / "ring.pyx").read_text()
    for name in re.findall(r'^include "(\w+\.pxi)"', text, re.MULTILINE):
        text += (SOURCES / name).read_text()
    return sorted(set(re.findall(r"^ +rb_(?:point|tear)\((\w+)", text, re.MULTILINE)))


def build_kill_ring(directory: Path) -> Path:
    """Build the module if it is not there yet; several processes may call this at once."""
    directory.mkdir(mode=0o755, exist_ok=True)
    module = directory / f"ring{sysconfig.get_config_var('EXT_SUFFIX')}"
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not module.exists():
            _build(directory, module)
    return module


def _build(directory: Path, module: Path) -> None:
    for source in SOURCES.glob("*.px[id]"):
        shutil.copy(source, directory)
    shutil.copy(_FUNCTIONS, directory)
    text = (SOURCES / "ring.pyx").read_text()
    (directory / "ring.pyx").write_text(f'{text}\n\ninclude "{_FUNCTIONS.name}"\n')
    _run(sys.executable, "-m", "cython", "-3", "ring.pyx", "-o", "ring.c", cwd=directory)
    # Renamed into place: a half-written module must not pass for a built one.
    unfinished = module.with_suffix(".new")
    include = sysconfig.get_path("include")
    # As pyproject.toml does, but for one flag.
    flags = ["-O2", "-fno-strict-aliasing", "-shared", "-fPIC", "-DUST_KILL_POINTS"]
    _run("gcc", *flags, f"-I{include}", "ring.c", "-o", str(unfinished), cwd=directory)
    os.rename(unfinished, module)


def _run(*command: str, cwd: Path) -> None:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr}"


def load(path: Path, name: str = NAME) -> ModuleType:
    """Load the module; under its usual name it takes the place of the installed one."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if name == NAME:
        assert NAME not in sys.modules
        sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _main(path: str, point: str, passes: str, gate: str, *arguments: str) -> int:
    module = load(Path(path))
    # `from ustconsumer._native import ring` looks there first.
    importlib.import_module("ustconsumer._native").ring = module  # type: ignore[attr-defined]
    module.arm(point, int(passes))
    program = importlib.import_module("consumerd.__main__")
    importlib.import_module("ustconsumer.consumer.sinks.disk")
    os.write(1, b"ready\n")
    while not os.path.exists(gate):
        time.sleep(0.001)
    status: int = program.main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
