# SPDX-License-Identifier: MIT
"""The wait word: a file of liblttng-ust's, its first word an i32 (facts, protocol 1.3)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sessiond.waitword import WaitWord
from ustconsumer.errors import UsageError


@pytest.mark.parametrize(("everybody", "others"), [(True, 0o664), (False, 0o600)])
def test_raised_and_reset_never_removed(tmp_path: Path, everybody: bool, others: int) -> None:
    path = tmp_path / "word"
    mask = os.umask(0o077)
    try:
        word = WaitWord(path, everybody)
    finally:
        os.umask(mask)
    # Programs of every uid read the global one, whatever the umask was.
    assert path.stat().st_mode & 0o777 == others
    # They map a page of it.
    assert path.stat().st_size == 4096
    word.raise_()
    assert path.read_bytes()[:8] == b"\1" + bytes(7)
    word.reset()
    assert path.read_bytes() == bytes(4096)


def test_another_users_word_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "word"
    path.write_bytes(bytes(4096))
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(UsageError, match=f"belongs to uid {uid}"):
        WaitWord(path, False)
    assert path.read_bytes() == bytes(4096)
