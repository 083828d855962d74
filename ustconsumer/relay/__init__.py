# SPDX-License-Identifier: MIT
"""The receiving end of the network: what ``ust-relayd`` is made of."""

from __future__ import annotations

__all__: list[str] = []
