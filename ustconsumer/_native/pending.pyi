# SPDX-License-Identifier: MIT
from collections.abc import Callable

__all__ = ["Later", "call_soon"]

def call_soon(callable_: Callable[[], object], /) -> bool:
    """Have the main thread call something between two of its bytecodes.

    What the callable raises is raised there.

    Returns
    -------
    bool
        False if too much is waiting already: it is not going to be called.
    """

class Later:
    """Something to call that calls something else soon, or now if too much is waiting.

    Without a bytecode of its own, between which that would happen at once.
    """

    def __init__(self, callable_: Callable[[], object], /) -> None: ...
    def __call__(self) -> None: ...
