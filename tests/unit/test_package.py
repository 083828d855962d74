# SPDX-License-Identifier: MIT
"""The package as a whole: what is in it, what it exports, what it must not import."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
TOP = ("ustconsumer", "consumerd", "sessiond")
SOURCES = (*TOP, "bench", "examples", "tests")
# A `__main__` runs when it is imported.
MODULES = sorted(
    ".".join(path.relative_to(TREE).with_suffix("").parts).removesuffix(".__init__")
    for top in TOP
    for pattern in ("*.py", "*.pyx")
    for path in (TREE / top).rglob(pattern)
    if path.stem != "__main__"
)
BUILD = tomllib.loads((TREE / "pyproject.toml").read_text())["tool"]["setuptools"]
IMPORTS = """
import importlib, sys
for name in sys.argv[1].split():
    importlib.import_module(name)
print(*set(sys.argv[2].split()) & set(sys.modules))
"""


def test_every_package_and_extension_is_built() -> None:
    packages = {
        ".".join(path.parent.relative_to(TREE).parts)
        for top in TOP
        for path in (TREE / top).rglob("__init__.py")
    }
    assert packages == set(BUILD["packages"])
    sources = {path.relative_to(TREE).as_posix() for path in TREE.glob("ustconsumer/**/*.pyx")}
    assert sources == {source for module in BUILD["ext-modules"] for source in module["sources"]}
    # What a source includes is not found by itself: neither for the sdist nor for rebuilding.
    included = {path.relative_to(TREE).as_posix() for path in TREE.glob("ustconsumer/**/*.pxi")}
    assert included == {
        name for module in BUILD["ext-modules"] for name in module.get("depends", ())
    }


def test_modules_list_what_they_export() -> None:
    wrong = []
    for name in MODULES:
        module = importlib.import_module(name)
        exported = getattr(module, "__all__", None)
        if exported is None:
            wrong.append(f"{name}: no __all__")
        else:
            wrong += [f"{name}.{item}" for item in exported if not hasattr(module, item)]
    assert not wrong


def test_license_line_comes_first() -> None:
    without = []
    for path in (path for top in SOURCES for path in (TREE / top).rglob("*.py*")):
        if path.suffix in (".py", ".pyi", ".pyx"):
            lines = path.read_text().splitlines()
            # only programs have a line before it, `#!`
            first = lines[lines[0].startswith("#!")] if lines else ""
            if first != "# SPDX-License-Identifier: MIT":
                without.append(str(path))
    assert not without


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        # `drtrace VERB` starts in 60 ms, and the tracer will load the layouts into programs.
        ("ustconsumer.cli.run", "numpy asyncio uvloop"),
        ("ustconsumer.client.session", "numpy asyncio uvloop"),
        ("ustconsumer.abi.ring ustconsumer.abi.application", "numpy asyncio socket"),
        ("ustconsumer.protocol.application ustconsumer.protocol.control", "numpy asyncio socket"),
        ("ustconsumer", "numpy asyncio socket msgspec"),
    ],
)
def test_import_is_light(modules: str, heavy: str) -> None:
    command = [sys.executable, "-P", "-c", IMPORTS, modules, heavy]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
