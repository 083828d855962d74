# SPDX-License-Identifier: MIT
"""The session registry, ``ltt-sessiond``.

It knows every session and every registered program, makes their buffers, tells programs
what to record, and never reads trace data. `registry` is the pure state, `applications`,
`links` and `reconcile` drive programs, `clients` and `control` serve clients,
`recording` holds what a session lives from, `daemon` puts all under one loop.
"""

from __future__ import annotations

__all__: list[str] = []
