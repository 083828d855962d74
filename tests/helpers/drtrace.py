# SPDX-License-Identifier: MIT
"""What ``drtrace record`` says at its end, and ending the registry ``drtrace create`` left."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from helpers import processes
from helpers.babeltrace import babeltrace2_text, discarded
from helpers.rundir import Rundir

from ustconsumer.client.registry import connect

__all__ = ["Summary", "end_registry"]

_SUMMARY = re.compile(
    r"(\d+) events? recorded, (\d+) discarded, (\d+) process(?:es)?, (\d+) packets?, "
    r"(\d+) bytes?, (\d+\.\d{3}) s"
)
# An index file begins with (magic, major, minor, size of an entry).
_INDEX_HEADER = struct.Struct(">IIII")


class Summary:
    """The end of ``drtrace record``'s output, and the trace it names."""

    def __init__(self, stdout: str):
        *self.before, summary, directory = stdout.splitlines()
        match = _SUMMARY.fullmatch(summary)
        assert match, stdout
        self.recorded, self.discarded, self.processes, self.packets, self.bytes = map(
            int, match.groups()[:5]
        )
        self.directory = Path(directory)

    def check(self) -> list[str]:
        """Compare with what babeltrace2 and the files say; return the text of the events."""
        reading = babeltrace2_text(self.directory)
        assert len(reading.lines) == self.recorded
        assert discarded(reading.stderr) == self.discarded
        packets = size = 0
        for index in self.directory.glob("**/index/*.idx"):
            raw = index.read_bytes()
            entry = _INDEX_HEADER.unpack_from(raw)[3]
            assert (len(raw) - _INDEX_HEADER.size) % entry == 0
            packets += (len(raw) - _INDEX_HEADER.size) // entry
            size += (index.parent.parent / index.stem).stat().st_size
        assert (packets, size) == (self.packets, self.bytes)
        return reading.lines


def end_registry(rundir: Rundir) -> None:
    """End the lasting registry of a run directory, and wait until it is gone."""
    with connect(rundir.path) as registry:
        pid = registry.connection.welcome.pid
        registry.shutdown()
    # No signal on top: a second order to end means at once.
    assert processes.ended(pid, 60)
