# SPDX-License-Identifier: MIT
"""Which libraries a command is started with."""

from __future__ import annotations

from pathlib import Path

import pytest

from ustconsumer.client import preload
from ustconsumer.errors import UsageError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Give a set of sonames to leave installed: all of them at first."""
    sonames = {library.soname for library in preload.LIBRARIES.values()}
    monkeypatch.setattr(
        preload, "find_library", lambda soname: Path("/l", soname) if soname in sonames else None
    )
    return sonames


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        ([], ["fork"]),
        (["none"], []),
        (["fork"], ["fork"]),
        (["none", "fork"], ["fork"]),
        (["dl", "libc"], ["libc-wrapper", "dl", "fork"]),
        (["pthread", "none"], ["pthread-wrapper"]),
        (["cyg"], ["cyg-profile", "fork"]),
        (["cyg-fast"], ["cyg-profile-fast", "fork"]),
    ],
)
def test_names_to_files(names: list[str], stems: list[str], installed: set[str]) -> None:
    assert preload.paths(names) == [f"/l/liblttng-ust-{stem}.so.1" for stem in stems]


def test_what_is_not_installed(installed: set[str]) -> None:
    installed.clear()
    # Nobody asked for it.
    assert preload.paths([]) == []
    with pytest.raises(UsageError) as refused:
        preload.paths(["libc"])
    assert str(refused.value) == (
        "cannot preload libc: liblttng-ust-libc-wrapper.so.1 is not installed "
        "(Debian package liblttng-ust1)"
    )
    with pytest.raises(UsageError, match="cannot preload fork"):
        preload.paths(["fork"])


def test_check() -> None:
    assert preload.check(["dl", "libc", "dl", "none"]) == ["dl", "libc", "none"]
    with pytest.raises(UsageError, match="unknown library to preload 'x'"):
        preload.check(["libc", "x"])
    with pytest.raises(UsageError, match="preload one of them"):
        preload.check(["cyg", "cyg-fast"])
