# SPDX-License-Identifier: MIT
"""The summary of ``record`` and its exit status; the recording is made up."""

from __future__ import annotations

from typing import Any

import pytest

from ustconsumer.cli import main
from ustconsumer.client import record
from ustconsumer.client.record import Recording
from ustconsumer.client.totals import Totals

LOSSLESS = Totals(recorded=1, discarded=0, processes=1, packets=1, bytes=1)
LOSSY = Totals(recorded=2, discarded=1, processes=2, packets=2, bytes=2)
TEXT = {
    1: "1 event recorded, 0 discarded, 1 process, 1 packet, 1 byte, 0.250 s",
    2: "2 events recorded, 1 discarded, 2 processes, 2 packets, 2 bytes, 0.250 s",
    0: "unknown number of events recorded, 0.250 s",
}


@pytest.mark.parametrize(
    ("strict", "totals", "status", "expected"),
    [
        (False, LOSSLESS, 0, 0),
        (False, LOSSY, 0, 0),
        (False, LOSSY, 7, 7),
        (True, LOSSLESS, 0, 0),
        (True, LOSSY, 0, 3),
        # The program's own failure is the greater news.
        (True, LOSSY, 7, 7),
        # Not counted is not known to be complete.
        (True, None, 0, 3),
    ],
)
def test_status_and_last_lines(
    strict: bool,
    totals: Totals | None,
    status: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def recorded(command: list[str], **options: Any) -> Recording:
        return Recording(
            command=command, status=status, output="/t", seconds=0.25, totals=totals, warnings=[]
        )

    monkeypatch.setattr(record, "record_command", recorded)
    assert main(["record", *(["--strict"] if strict else []), "true"]) == expected
    text = TEXT[totals.recorded if totals else 0]
    assert capsys.readouterr() == (f"{text}\n/t\n", "")
