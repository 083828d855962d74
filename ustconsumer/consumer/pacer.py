# SPDX-License-Identifier: MIT
"""How long a consumer lets packets gather before it looks again."""

from __future__ import annotations

__all__ = ["Pacer"]


class Pacer:
    """Chooses the pause between two passes from how full the last pass found the buffers.

    A pass costs the same system calls whether it moves one packet or ten, and a writer
    that finds the reader awake need not wake it. So the pause aims at finding the
    fullest buffer ``target`` full, and shrinks at once when a pass found more.

    Parameters
    ----------
    target : float
        Part of the buffer that may fill between two passes.
    longest_s : float
        Upper bound of a pause: latency of an idle session's first packets.
    """

    def __init__(self, target: float = 0.25, longest_s: float = 0.02) -> None:
        self._target = target
        self._longest_s = longest_s
        self._pause_s = 0.0

    def pause(self, fill: float, elapsed_s: float) -> float:
        """Return the seconds to pause before the next pass.

        Parameters
        ----------
        fill : float
            Largest part of a buffer that this pass found readable, in [0, 1].
        elapsed_s : float
            Seconds since the pass before.
        """
        if fill <= 0.0 or elapsed_s <= 0.0:
            self._pause_s = 0.0
        else:
            wanted = elapsed_s * self._target / fill
            # Grow by at most a half a pass, shrink at once: bursts cost events, idling does not.
            self._pause_s = min(wanted, max(elapsed_s, 1e-5) * 1.5, self._longest_s)
        return self._pause_s
