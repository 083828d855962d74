# SPDX-License-Identifier: MIT
"""Whose credentials a consumer has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sessiond.spawner import Program

_ASK = """
import os, sys
from sessiond.spawner import _become
_become(int(sys.argv[1]), int(sys.argv[2]))
print(*os.getresuid(), *os.getresgid(), *os.getgroups())
"""


@pytest.mark.parametrize("uid", [0, 54321])
def test_a_consumer_is_its_sessions_owner_for_good(uid: int) -> None:
    """Root's registry gives all three ids and the groups away; any other has its own only."""
    answer = subprocess.run(
        [sys.executable, "-P", "-c", _ASK, str(uid), str(uid)],
        capture_output=True,
        text=True,
        check=True,
    )
    said = [int(word) for word in answer.stdout.split()]
    if os.getuid() == 0 and uid:
        assert said == [uid] * 6
    else:
        assert said[:6] == [*os.getresuid(), *os.getresgid()]


def test_options_become_arguments() -> None:
    assert Program("disk").argv("s") == ["disk", "s"]
    assert Program("disk", workers=4, direct=True).argv("s") == [
        "disk",
        "s",
        "--workers",
        "4",
        "--direct",
    ]
