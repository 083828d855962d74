# SPDX-License-Identifier: MIT
"""Native operations: atomics, the ring buffer's reader side, the event counter.

They repeat; Python decides. No policy, no numpy, no constants of the layout here:
offsets come from ``ustconsumer.abi`` at run time. Each operation has a readable
Python definition in ``ustconsumer.ringbuffer`` or ``ustconsumer.ctf``.
"""

from __future__ import annotations

__all__: list[str] = []
