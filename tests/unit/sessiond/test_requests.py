# SPDX-License-Identifier: MIT
"""Which event rules applications can have."""

from __future__ import annotations

import pytest

from sessiond.requests import check_event
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import EventInfo


@pytest.mark.parametrize(
    ("pattern", "excluded"),
    [("a*", "*"), ("*", "*"), ("a*", "a*"), ("ab*", "a*"), (r"a\*b*", r"a\**")],
)
def test_leaving_out_all_is_refused(pattern: str, excluded: str) -> None:
    """As the real lttng 2.13 does, in its words."""
    with pytest.raises(UsageError) as refused:
        check_event(EventInfo(pattern=pattern, exclusions=["x", excluded]))
    assert f"{excluded} excludes all events from {pattern}" in str(refused.value)


@pytest.mark.parametrize(
    ("pattern", "excluded"),
    [("a*", "a*b"), ("ab*", "a*c"), ("a*", "ab*"), ("a*", r"a\*"), ("a*", "b*"), ("*", "a*")],
)
def test_leaving_out_some_is_not(pattern: str, excluded: str) -> None:
    check_event(EventInfo(pattern=pattern, exclusions=[excluded]))


def test_only_a_pattern_leaves_out() -> None:
    with pytest.raises(UsageError, match="nothing can be excluded"):
        check_event(EventInfo(pattern="a", exclusions=["b"]))
