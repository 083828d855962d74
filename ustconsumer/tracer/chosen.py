# SPDX-License-Identifier: MIT
"""Which functions are traced."""

from __future__ import annotations

import os
import sys
from types import CodeType, ModuleType

import ustconsumer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    #: Values of an event's fields: name, file, line.
    Place: TypeAlias = tuple[str, str, int]

__all__ = ["Chosen", "Known", "left_out"]

_OURS = os.path.join(os.path.dirname(os.path.abspath(ustconsumer.__file__)), "")
#: Files whose functions are nobody's business unless asked for: at first those of the import
#: system, which tracebacks leave out as well.
left_out = {"<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"}
#: Functions whose places are remembered; programs can make new ones without end.
_MOST = 100_000


class Chosen:
    """What was asked for: see `ustconsumer.tracer.calls.trace_calls` for the targets."""

    def __init__(self, targets: tuple[object, ...]) -> None:
        self._everything = not targets
        self._modules: set[str] = set()
        #: module and qualified name
        self._classes: set[tuple[str, str]] = set()
        #: by id: equal code may be of two functions
        self._codes: dict[int, CodeType] = {}
        for target in targets:
            self._add(target)

    def _add(self, target: object) -> None:
        if isinstance(target, str):
            self._modules.add(target)
        elif isinstance(target, ModuleType):
            self._modules.add(target.__name__)
        elif isinstance(target, type):
            self._classes.add((target.__module__, target.__qualname__))
        else:
            function = target
            while hasattr(function, "__wrapped__"):
                function = function.__wrapped__
            function = getattr(function, "__func__", function)
            code = getattr(function, "__code__", None)
            if not isinstance(code, CodeType):
                raise TypeError(
                    f"calls of {target!r}: a module, class or function written in Python, or the "
                    "name of a module"
                )
            self._codes[id(code)] = code

    @classmethod
    def together(cls, several: Iterable[Chosen]) -> Chosen:
        """Return what any of them chose."""
        union = cls(())
        union._everything = False
        for each in several:
            union._everything |= each._everything
            union._modules |= each._modules
            union._classes |= each._classes
            union._codes |= each._codes
        return union

    def __contains__(self, function: tuple[CodeType, str]) -> bool:
        """Return whether a function is meant, given its code and its module's name."""
        code, module = function
        if code.co_filename.startswith(_OURS):
            return False
        if self._everything:
            return code.co_filename not in left_out
        if id(code) in self._codes:
            return True
        if any(module == name or module.startswith(f"{name}.") for name in self._modules):
            return True
        return any(
            module == name and code.co_qualname.startswith(f"{class_}.")
            for name, class_ in self._classes
        )


class Known:
    """What was found out of functions: the values of their events, or that they have none.

    Attributes
    ----------
    places : dict
        By id of the code; empty for what is not traced. Look here, then call `learn`.
    """

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        self.places: dict[int, Place | tuple[()]] = {}
        # While it is here, nothing else has its id. By id, for it is slow to compare.
        self._codes: dict[int, CodeType] = {}

    def learn(self, code: CodeType, depth: int = 2) -> Place | tuple[()]:
        """Return the place of a function that ``depth`` frames up from here is running."""
        if len(self._codes) >= _MOST:
            self.forget()
        module = sys._getframe(depth).f_globals.get("__name__", "")
        if not isinstance(module, str):
            module = ""
        place: Place | tuple[()] = ()
        if (code, module) in self._chosen:
            name = f"{module}.{code.co_qualname}" if module else code.co_qualname
            place = (name, code.co_filename, code.co_firstlineno)
        self._codes[id(code)] = code
        self.places[id(code)] = place
        return place

    def forget(self) -> None:
        """Find everything out again."""
        self.places.clear()
        self._codes.clear()
