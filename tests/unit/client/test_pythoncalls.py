# SPDX-License-Identifier: MIT
"""The sitecustomize that begins to record calls, in real interpreters that nobody records."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ustconsumer.client.pythoncalls import PythonCalls, check_modules
from ustconsumer.errors import UsageError

#: Says what a program can see of it.
SEEN = """
import sys
print([path for path in sys.path if "calls" in path])
print(sorted(sys.modules["ustconsumer.tracer.python_calls"]._calls.chosen._modules))
print(getattr(sys.modules["sitecustomize"], "hidden", None))
"""


def run(
    calls: PythonCalls, code: str, *options: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    env = calls.environment({**os.environ, "LTTNG_HOME": "/nonexistent", **variables})
    return subprocess.run(
        [sys.executable, *options, "-c", code], env=env, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Give a path with this package, wherever it is, and a sitecustomize."""
    import ustconsumer

    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("hidden = __file__\n")
    return f"{tmp_path / 'own'}:{Path(ustconsumer.__file__).parents[1]}"


def test_it_starts_and_is_not_seen(tmp_path: Path, path: str) -> None:
    calls = PythonCalls(tmp_path / "calls", ["shop", "other.module"])
    result = run(calls, SEEN, PYTHONPATH=path)
    seen, modules, hidden = result.stdout.splitlines()
    assert (seen, hidden) == ("[]", str(tmp_path / "own" / "sitecustomize.py"))
    assert modules == "['other.module', 'shop']"
    assert result.stderr == ""
    assert calls.notes() == []
    assert calls.why_empty() == "no function of shop, other.module was called"


def test_children_start_it_too(tmp_path: Path, path: str) -> None:
    calls = PythonCalls(tmp_path / "calls", [])
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SEEN!r}], check=True)"
    result = run(calls, code, PYTHONPATH=path)
    assert (result.stdout.splitlines()[:2], result.stderr) == (["[]", "[]"], "")
    assert calls.why_empty() == ""


def test_an_error_of_the_one_it_hides(tmp_path: Path, path: str) -> None:
    """As without us: the interpreter says so and goes on; and calls are recorded."""
    calls = PythonCalls(tmp_path / "calls", [])
    (tmp_path / "own" / "sitecustomize.py").write_text("raise ValueError('its own')\n")
    result = run(calls, "import sys; print('ustconsumer' in sys.modules)", PYTHONPATH=path)
    assert result.stdout == "True\n"
    assert "ValueError: its own" in result.stderr
    assert calls.notes() == []


def test_without_its_variable_it_does_nothing(tmp_path: Path, path: str) -> None:
    calls = PythonCalls(tmp_path / "calls", [])
    env = calls.environment({**os.environ, "PYTHONPATH": path})
    del env["USTCONSUMER_PYTHON_CALLS"]
    code = "import sys; print('ustconsumer' in sys.modules, sys.modules['sitecustomize'].hidden)"
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert result.stdout == f"False {tmp_path / 'own' / 'sitecustomize.py'}\n"


def test_a_python_without_this_package(tmp_path: Path) -> None:
    calls = PythonCalls(tmp_path / "calls", [])
    # Neither site-packages nor the tree: the link in the directory is what is left.
    code = "import sys, ustconsumer; print(ustconsumer.__file__)"
    bare = "import sys; sys.path[:] = [p for p in sys.path if not p.endswith('site-packages')]\n"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text(
        f"{bare}sys.meta_path[:] = [f for f in sys.meta_path if 'ditable' not in repr(f)]\n"
    )
    result = run(calls, code, PYTHONPATH=str(tmp_path / "own"))
    assert result.stdout == f"{tmp_path}/calls/packages/ustconsumer/__init__.py\n", result.stderr


def test_a_python_that_cannot_load_it(tmp_path: Path) -> None:
    calls = PythonCalls(tmp_path / "calls", [])
    broken = tmp_path / "broken" / "ustconsumer"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("")
    code = "import sys; print([name for name in sys.modules if 'ustconsumer' in name])"
    for _ in range(2):
        result = run(calls, code, PYTHONPATH=str(tmp_path / "broken"))
        assert (result.stdout, result.stderr) == ("[]\n", "")
    (line,) = calls.notes()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert line == (
        f"calls of {sys.executable} are not recorded: Python {version} cannot load ustconsumer "
        "(ModuleNotFoundError: No module named 'ustconsumer.tracer')"
    )
    # Said once is enough.
    assert calls.why_empty() == ""


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_a_python_that_does_not_start_it(tmp_path: Path, path: str, option: str) -> None:
    calls = PythonCalls(tmp_path / "calls", ["shop"])
    assert run(calls, "print(1)", option, PYTHONPATH=path).stdout == "1\n"
    assert calls.notes() == []
    assert calls.why_empty().startswith("no Python started that would record its calls: python -I")


def test_a_path_of_the_program_s_own(tmp_path: Path) -> None:
    calls = PythonCalls(tmp_path / "calls", ["shop"])
    assert calls.environment({"PYTHONPATH": "a:b", "X": "y"}) == {
        "PYTHONPATH": f"{tmp_path}/calls:a:b",
        "X": "y",
        "USTCONSUMER_PYTHON_CALLS": "shop",
    }
    assert calls.environment({})["PYTHONPATH"] == f"{tmp_path}/calls"


def test_names_of_modules() -> None:
    assert check_modules(["shop", "shop.cart", "__main__", "shop"]) == [
        *("shop", "shop.cart", "__main__"),
    ]
    for name in ("python3.11", "./app.py", "a..b", "-x", "shop:*"):
        with pytest.raises(UsageError, match="is no name of a module"):
            check_modules([name])
