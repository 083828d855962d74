# SPDX-License-Identifier: MIT
"""Common Trace Format: field types, metadata text and packets, walking records; no numpy."""

from __future__ import annotations

__all__: list[str] = []
