# SPDX-License-Identifier: MIT
"""Programs of Python whose calls are recorded, though they know nothing of it.

A directory in front of PYTHONPATH has a module `sitecustomize`, which every Python imports
as it starts. It does what the module did that it hides, and begins to trace.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import ustconsumer
from ustconsumer.errors import UsageError

__all__ = ["PythonCalls", "check_modules"]

#: Names of modules with commas between them; empty for all.
_MODULES = "USTCONSUMER_PYTHON_CALLS"
_NOTES = "notes"
_PACKAGES = "packages"
#: Of one note.
_MAX_NOTE = 1000

#: Runs in the program: must go with every Python 3, and be neither seen nor heard.
_SITECUSTOMIZE = f'''\
import os
import sys

_HERE = os.path.dirname(__file__)


def _hidden():
    import _frozen_importlib
    import _frozen_importlib_external

    spec = _frozen_importlib_external.PathFinder.find_spec(__name__)
    if spec is not None and spec.loader is not None:
        module = _frozen_importlib.module_from_spec(spec)
        sys.modules[__name__] = module
        spec.loader.exec_module(module)


def _start(modules):
    packages = os.path.join(_HERE, "{_PACKAGES}")
    # What is done after the start is a call of the program's.
    _note("")
    try:
        try:
            import ustconsumer
        except ImportError:
            # Another Python than drtrace's: of its packages only this one.
            sys.path.append(packages)
        from ustconsumer.tracer import python_calls

        python_calls.start(modules, __file__)
    except Exception as error:
        if packages in sys.path:
            sys.path.remove(packages)
        for name in list(sys.modules):
            if name.partition(".")[0] == "ustconsumer":
                del sys.modules[name]
        _note(
            "calls of %s are not recorded: Python %d.%d cannot load ustconsumer (%s: %s)"
            % (sys.executable, *sys.version_info[:2], type(error).__name__, error)
        )


def _note(text):
    try:
        with open(os.path.join(_HERE, "{_NOTES}", str(os.getpid())), "w") as file:
            file.write(text)
    except OSError:
        pass


sys.path[:] = [_each for _each in sys.path if _each != _HERE]
try:
    _hidden()
finally:
    if "{_MODULES}" in os.environ:
        _start(os.environ["{_MODULES}"])
'''


def check_modules(modules: Sequence[str]) -> list[str]:
    """Return names of modules, each once.

    Raises
    ------
    UsageError
        No module can be called that.
    """
    for module in modules:
        if not all(part.isidentifier() for part in module.split(".")):
            raise UsageError(
                f"{module!r} is no name of a module: --python-calls takes names like shop.cart, "
                "and `--` ends them"
            )
    return list(dict.fromkeys(modules))


class PythonCalls:
    """What makes every Python that a command starts record its calls.

    Parameters
    ----------
    directory : Path
        Made by this; must be there as long as the command runs.
    modules : sequence of str
        Whose functions, those of packages with all in them; empty for all.
    """

    def __init__(self, directory: Path, modules: Sequence[str]) -> None:
        self._directory = directory
        self._modules = list(modules)
        directory.mkdir()
        (directory / _NOTES).mkdir()
        (directory / _PACKAGES).mkdir()
        (directory / _PACKAGES / ustconsumer.__name__).symlink_to(
            Path(ustconsumer.__file__).resolve().parent
        )
        (directory / "sitecustomize.py").write_text(_SITECUSTOMIZE)

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the command."""
        path = env.get("PYTHONPATH")
        place = os.fspath(self._directory)
        return {
            **env,
            "PYTHONPATH": f"{place}{os.pathsep}{path}" if path else place,
            _MODULES: ",".join(self._modules),
        }

    def notes(self) -> list[str]:
        """Return why some programs did not record their calls, a line each."""
        return sorted({line for line in self._notes() if line})

    def _notes(self) -> list[str]:
        """Return a line of each Python that started, empty if all went well."""
        lines = []
        for note in (self._directory / _NOTES).iterdir():
            with note.open("rb") as file:
                lines.append(" ".join(file.read(_MAX_NOTE).decode(errors="replace").split()))
        return lines

    def why_empty(self) -> str:
        """Return why nothing was recorded; empty if a note says so, or if nobody knows."""
        lines = self._notes()
        if not lines:
            return (
                "no Python started that would record its calls: python -I, -E and -S do not, nor "
                "one whose environment was cleared of PYTHONPATH"
            )
        if self._modules and not any(lines):
            return f"no function of {', '.join(self._modules)} was called"
        return ""
