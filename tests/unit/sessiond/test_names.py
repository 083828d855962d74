# SPDX-License-Identifier: MIT
from __future__ import annotations

from collections.abc import Callable

import pytest

from sessiond.names import check_channel_name, check_output, check_pattern, check_session_name
from ustconsumer.errors import UsageError

Check = Callable[[str], None]


@pytest.mark.parametrize(
    ("check", "names"),
    [
        (check_session_name, ["s", "my session", "ünïcode", "a" * 254, ".hidden"]),
        (check_channel_name, ["channel0", "a-b.c", "ü" * 119]),
        (check_pattern, ["*", "provider:event", "p:a\\*b", "a" * 255]),
        (check_output, ["", "/srv/trace"]),
    ],
)
def test_accepted(check: Check, names: list[str]) -> None:
    for name in names:
        check(name)


@pytest.mark.parametrize(
    ("check", "names"),
    [
        (check_session_name, ["", "a/b", ".", "..", "a\nb", "a" * 255, "\udc80"]),
        # Readers ignore files with a leading dot; the name is part of file names.
        (check_channel_name, ["", "a/b", ".a", "a\0b", "ü" * 120]),
        (check_pattern, ["", "a" * 256, "a\tb"]),
        (check_output, ["relative", "/a\nb"]),
    ],
)
def test_refused_in_one_line(check: Check, names: list[str]) -> None:
    for name in names:
        with pytest.raises(UsageError) as refused:
            check(name)
        assert "\n" not in str(refused.value)
