# SPDX-License-Identifier: MIT
"""The trace format: field types, metadata text, packets, walking records."""

from __future__ import annotations

__all__: list[str] = []
