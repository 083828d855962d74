# SPDX-License-Identifier: MIT
"""Times as babeltrace2 takes them; `tests/interop/test_view.py` compares with it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ustconsumer.cli.moments import Moment
from ustconsumer.errors import UsageError

#: 2026-11-22 19:48:08 UTC
FIRST = 1795376888_000_000_005
SECOND = 1_000_000_000


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be 5:30 before Greenwich: it is the next day already."""
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "gmt", "nanoseconds"),
    [
        ("1795376888", False, 1795376888 * SECOND),
        ("1795376888.5", True, 1795376888 * SECOND + 500_000_000),
        ("0.000000001", False, 1),
        ("-1.25", False, -1_250_000_000),
        ("19:48:08", True, 1795376888 * SECOND),
        ("19:48", True, 1795376880 * SECOND),
        ("19:48:08.25", True, 1795376888 * SECOND + 250_000_000),
        # Of the day on which the trace begins, here.
        ("01:18:08", False, 1795376888 * SECOND),
        ("23:18:08", False, (1795376888 + 22 * 3600) * SECOND),
        ("2026-11-22 19:48:08", True, 1795376888 * SECOND),
        ("2026-11-23 01:18:08.000000007", False, 1795376888 * SECOND + 7),
        ("1970-01-02", True, 86400 * SECOND),
        ("1970-01-02", False, (86400 - 19800) * SECOND),
    ],
)
def test_moments(text: str, gmt: bool, nanoseconds: int) -> None:
    assert Moment.parse(text).nanoseconds_since_epoch(FIRST, gmt) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "noon", "1:2", "19:48:", "1.0000000001", "2026-11-22T19:48", "٣", "5 ", "--5"]
)
def test_no_moments(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        Moment.parse(text)


def test_dates_out_of_range() -> None:
    with pytest.raises(UsageError, match="no such date"):
        Moment.parse("0000-01-01").nanoseconds_since_epoch(FIRST, gmt=True)
