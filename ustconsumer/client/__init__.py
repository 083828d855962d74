# SPDX-License-Identifier: MIT
"""The one way to talk to a registry: connections, sessions, recording a command."""

from __future__ import annotations

__all__: list[str] = []
