# SPDX-License-Identifier: MIT
"""A readable trace from the files in which a session had its buffers, after everything died.

Files of this package's registry and of LTTng (``--shm-path``) are the same.
"""

from __future__ import annotations

from ustconsumer.recover.recovery import Recovered, recover

__all__ = ["Recovered", "recover"]
