# SPDX-License-Identifier: MIT
"""The ring buffer of one stream: where things are, how it is made, read and switched.

``geometry`` and ``allocate`` are used as they are. ``reader`` and ``switch`` are the
readable definitions of what ``_native.ring`` does; one test class runs on both, and
the native one is what runs. ``repair`` finishes what a killed process left unfinished,
with ``salvage`` telling what of it was written. ``stream`` shows a buffer as numpy views.
"""

from __future__ import annotations

__all__: list[str] = []
