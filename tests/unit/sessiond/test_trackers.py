# SPDX-License-Identifier: MIT
"""Inclusion sets, as `lttng track` and `untrack` 2.13 change them."""

from __future__ import annotations

import grp
import pwd

import pytest

from sessiond.trackers import Program, Trackers
from ustconsumer.errors import CommandError, UsageError

PROGRAM = Program(vpid=42, uid=1000, gid=100, name="app-1")
OTHER = Program(vpid=43, uid=1001, gid=100, name="other")


def recorded(trackers: Trackers) -> list[bool]:
    return [not trackers.excluding(program) for program in (PROGRAM, OTHER)]


def test_a_life_of_an_inclusion_set() -> None:
    """The example of lttng-track(1), and what `untrack` refuses."""
    trackers = Trackers()
    vpid = trackers["vpid"]
    assert recorded(trackers) == [True, True]
    with pytest.raises(CommandError, match="includes everything"):
        vpid.remove("42")
    # Where everything was, only this is.
    vpid.add("42")
    assert recorded(trackers) == [True, False]
    vpid.add("43")
    assert recorded(trackers) == [True, True]
    with pytest.raises(CommandError, match="42 is already in the virtual process ID inclusion"):
        vpid.add("42")
    vpid.remove("42")
    assert recorded(trackers) == [False, True]
    with pytest.raises(CommandError, match="42 is not in the virtual process ID inclusion set"):
        vpid.remove("42")
    # An empty set is not the one of everything.
    vpid.remove("43")
    assert (recorded(trackers), trackers.info()) == ([False, False], {"vpid": []})
    vpid.add("")
    assert (recorded(trackers), trackers.info()) == ([True, True], {})
    vpid.remove("")
    assert (recorded(trackers), trackers.info()) == ([False, False], {"vpid": []})
    vpid.add("43")
    assert (recorded(trackers), trackers.info()) == ([False, True], {"vpid": ["43"]})


def test_a_program_must_be_in_every_set() -> None:
    trackers = Trackers()
    trackers["vuid"].add("1000")
    trackers["vgid"].add("100")
    assert recorded(trackers) == [True, False]
    trackers["vgid"].remove("")
    assert recorded(trackers) == [False, False]
    words = ["virtual user ID tracker", "virtual group ID tracker"]
    assert trackers.excluding(OTHER) == words


@pytest.mark.parametrize(
    ("pattern", "included"),
    [
        ("app-1", True),
        ("app*", True),
        ("*", True),
        ("*-1", True),
        ("app", False),
        # Only the star is special.
        ("app-?", False),
        ("app-[0-9]", False),
    ],
)
def test_names_of_programs(pattern: str, included: bool) -> None:
    trackers = Trackers()
    trackers["name"].add(pattern)
    assert recorded(trackers) == [included, pattern == "*"]


def test_users_and_groups_by_name() -> None:
    trackers = Trackers()
    user, group = pwd.getpwuid(0).pw_name, grp.getgrgid(0).gr_name
    trackers["vuid"].add(user)
    trackers["vgid"].add(group)
    assert trackers.excluding(Program(1, 0, 0, "")) == []
    # As it was said: `lttng list` shows both forms beside each other.
    trackers["vuid"].add("0")
    assert trackers.info() == {"vuid": [user, "0"], "vgid": [group]}
    trackers["vuid"].remove(user)
    assert trackers.excluding(Program(1, 0, 0, "")) == []


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("vuid", "nosuchuser", "User `nosuchuser` was not found"),
        ("vgid", "nosuchgroup", "Group `nosuchgroup` was not found"),
        ("vpid", "abc", "'abc' is no virtual process ID"),
        ("vpid", "-4", "'-4' is no virtual process ID"),
        ("vpid", "٤", "is no virtual process ID"),
        ("vpid", "9" * 30, "is so large"),
        ("name", "a\nb", "is no pattern"),
        ("name", "x" * 300, "is no pattern"),
        ("pid", "1", "unknown attribute 'pid'"),
    ],
)
def test_what_is_no_value_changes_nothing(attribute: str, value: str, words: str) -> None:
    trackers = Trackers()
    with pytest.raises((CommandError, UsageError), match=words):
        trackers[attribute].add(value)
    assert recorded(trackers) == [True, True]
    assert trackers.info() == {}


def test_a_set_has_bounds() -> None:
    vpid = Trackers()["vpid"]
    for number in range(4096):
        vpid.add(str(number))
    with pytest.raises(CommandError, match="no more fit"):
        vpid.add("5000")
