# SPDX-License-Identifier: MIT
"""Codecs without I/O: bytes in, messages out. ``application`` and ``control``."""

from __future__ import annotations

__all__: list[str] = []
