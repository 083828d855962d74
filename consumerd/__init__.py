# SPDX-License-Identifier: MIT
"""Consumer programs: thin fronts over `ustconsumer.consumer`."""

from __future__ import annotations

__all__: list[str] = []
