# SPDX-License-Identifier: MIT
"""A consumer killed at every step of its native code, and what its successor leaves on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.killbuild import load, points_in_sources

import ustconsumer._native.ring as normal

#: What a reader in discard mode has no need to do.
_OVERWRITE_ONLY = {
    *("exchange_allowed", "exchange_tagged", "exchange_swapped", "exchange_done"),
    *("get_referenced", "put_unreferenced", "deliver_id", "take_over_page"),
}


def test_the_list_is_that_of_the_build(kill_ring: Path) -> None:
    """The tests below walk through the sources' names: none may be missing."""
    points = load(kill_ring, "ring").kill_points()
    assert list(points) == points_in_sources()
    assert set(points) > _OVERWRITE_ONLY
    steps = ("get", "put", "exchange", "move", "data", "index", "switch", "commit", "deliver")
    assert not [step for step in steps if not any(p.startswith(f"{step}_") for p in points)]


def test_a_normal_build_has_none() -> None:
    assert not hasattr(normal, "arm")
    assert not hasattr(normal, "kill_points")
    binary = Path(str(normal.__file__)).read_bytes()
    assert not [point for point in points_in_sources() if point.encode() in binary]


@pytest.mark.repeat(ci=2, soak=9)
@pytest.mark.parametrize("point", points_in_sources())
def test_nothing_is_lost_and_nothing_is_twice(kill_ring: Path, point: str, repeat: int) -> None:
    """It dies at the n-th pass; nothing, little or a lot is written; then comes a successor."""
    result = subprocess.run(
        [sys.executable, "-P", "-m", "helpers.kills", kill_ring, point, str(repeat)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    outcomes: list[dict[str, Any]] = json.loads(result.stdout)
    assert not [each for each in outcomes if each["problem"] or each["lost"] or each["twice"]]
    died_in = {each["overwrite"] for each in outcomes if each["died"]}
    assert died_in == ({True} if point in _OVERWRITE_ONLY else {False, True})
