# SPDX-License-Identifier: MIT
"""Event rules: globs, exclusions, levels."""

from __future__ import annotations

import re
from typing import Any

import pytest
from helpers.tracing import FakeRegistry, declare
from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.protocol import application
from ustconsumer.tracer.process import Process
from ustconsumer.tracer.rules import Rule, glob, is_glob


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "", True),
        ("*", "shop:order", True),
        ("shop:*", "shop:order", True),
        ("shop:*", "shops:order", False),
        ("*:order", "shop:order", True),
        ("*:order", "shop:orders", False),
        ("s*p:o*r", "shop:order", True),
        ("s*x*r", "shop:order", False),
        ("a*a", "a", False),
        ("a*b*c", "abbc", True),
        ("*ab*ab*", "aab", False),
        ("**", "shop", True),
        (r"sh\*op*", "sh*op:a", True),
        (r"sh\*op*", "shxop:a", False),
        (r"a\\*", r"a\b", True),
        ("*\\", "shop", True),
    ],
)
def test_stars_match_any_run_of_characters(pattern: str, name: str, expected: bool) -> None:
    assert glob(pattern, name) is expected


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_globs_match_what_regular_expressions_match(pattern: str, name: str) -> None:
    expected = re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), name) is not None
    assert glob(pattern, name) is expected


def test_an_escaped_star_makes_no_glob() -> None:
    assert is_glob("shop:*")
    assert is_glob(r"shop\\*")
    assert not is_glob(r"shop:\*")
    assert not is_glob("shop:order")


def rule(name: str, kind: int = 0, level: int = -1) -> Rule:
    values: dict[str, Any] = {"name": name, "loglevel_type": kind, "loglevel": level}
    return Rule(values)


@pytest.mark.parametrize(
    ("kind", "level", "levels"),
    [
        (0, -1, range(15)),
        (0, 4, range(15)),
        (1, 4, range(5)),
        (2, 4, [4]),
        # Without a level, range and single mean all.
        (1, -1, range(15)),
        (2, -1, range(15)),
    ],
)
def test_levels(kind: int, level: int, levels: Any) -> None:
    wanted = rule("shop:*", kind, level)
    assert [n for n in range(-1, 17) if wanted.matches("shop:order", n) and n >= 0] == list(levels)


def test_only_a_glob_heeds_exclusions() -> None:
    for pattern, expected in (("shop:*", False), ("shop:order", True)):
        wanted = rule(pattern)
        wanted.exclude(("shop:o*", ""))
        assert wanted.matches("shop:order", 13) is expected
        assert wanted.matches("shop:cancel", 13) is (pattern == "shop:*")


def test_exclusions_and_levels_of_commands(process: Process, daemon: FakeRegistry) -> None:
    for level, name in enumerate(("shop:a", "shop:b", "shop:cc", "shop:cd")):
        declare(process, name, level=level)
    session = daemon.session()
    made = daemon.make_channel(session)
    handle = daemon.do(application.event(made.handle, "shop:*", 1, 2))
    daemon.do(application.exclusion(handle, ["shop:a", "*d"]))
    daemon.do(application.enable(handle))
    daemon.do(application.enable(session))
    assert daemon.events_asked() == ["shop:b", "shop:cc"]
