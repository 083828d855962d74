# SPDX-License-Identifier: MIT
"""Places packets go to; one file each."""

from __future__ import annotations

__all__: list[str] = []
