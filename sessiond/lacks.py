# SPDX-License-Identifier: MIT
"""What programs of a session are recorded without."""

from __future__ import annotations

__all__ = ["Lacks"]

#: Kinds of which a session keeps count; each is a context of a channel.
_MAX_KINDS = 256


class Lacks:
    """Counts the programs that lack something, for whoever reads the trace after their end."""

    def __init__(self) -> None:
        #: by what is missing, and why: how many, and the last of them
        self._kinds: dict[tuple[str, str], tuple[int, str]] = {}

    def note(self, what: str, why: str, program: str) -> None:
        """Note that a program is recorded without something."""
        if (what, why) in self._kinds or len(self._kinds) < _MAX_KINDS:
            count, last = self._kinds.get((what, why), (0, ""))
            # It may be set up more than once.
            self._kinds[what, why] = count + (last != program), program

    def lines(self) -> list[str]:
        """Return a line for each thing that is missing somewhere."""
        lines = []
        for (what, why), (count, program) in self._kinds.items():
            programs = "1 program is" if count == 1 else f"{count} programs are"
            lines.append(f"{programs} recorded without {what}: {why} (last: application {program})")
        return lines
