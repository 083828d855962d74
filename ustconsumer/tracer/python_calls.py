# SPDX-License-Identifier: MIT
"""Calls of a program that knows nothing of it: what ``drtrace record --python-calls`` starts.

The program is started with a module `sitecustomize` in front of its path, which calls
`start`; see `ustconsumer.client.pythoncalls`.
"""

from __future__ import annotations

from ustconsumer.tracer import chosen
from ustconsumer.tracer.calls import Calls, trace_calls

__all__ = ["start"]

_calls: Calls | None = None


def start(modules: str, file: str) -> None:
    """Make events of calls until the process ends; once.

    Parameters
    ----------
    modules : str
        Names with commas between them; empty for everything.
    file : str
        Who calls this, and is not traced.
    """
    global _calls
    if _calls is None:
        # They are left before the program begins: returns without a call.
        chosen.left_out |= {file, "<frozen site>"}
        _calls = trace_calls(*filter(None, modules.split(","))).start()
