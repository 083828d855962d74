# SPDX-License-Identifier: MIT
"""``python -m ustconsumer.cli``."""

from __future__ import annotations

import sys

from ustconsumer.cli import main

__all__: list[str] = []

sys.exit(main())
