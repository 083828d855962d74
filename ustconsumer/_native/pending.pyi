# SPDX-License-Identifier: MIT
from collections.abc import Callable

__all__ = ["Later"]

class Later:
    """Something to call that has the main thread call something else soon.

    It has no bytecode of its own, between which that would happen at once.

    Parameters
    ----------
    callable_ : callable
        Called between two bytecodes of the main thread, and again as long as it returns True.
        Its argument is True where it will not be called again: too much else is waiting. What
        it raises is raised there.
    """

    def __init__(self, callable_: Callable[[bool], bool], /) -> None: ...
    def __call__(self) -> None: ...
