# SPDX-License-Identifier: MIT
"""How severe events are: enum lttng_ust_abi_loglevel, the most severe first.

The number of a level is its place here; the trace and the tools say ``TRACE_`` before it.
"""

from __future__ import annotations

__all__ = ["LOGLEVELS"]

LOGLEVELS = (
    *("EMERG", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO"),
    *("DEBUG_SYSTEM", "DEBUG_PROGRAM", "DEBUG_PROCESS", "DEBUG_MODULE", "DEBUG_UNIT"),
    *("DEBUG_FUNCTION", "DEBUG_LINE", "DEBUG"),
)
