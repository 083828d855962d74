# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from pathlib import Path

import pytest

from sessiond.background import pid_file
from ustconsumer.errors import UsageError


@pytest.mark.parametrize("before", ["", "4194304\n"])
def test_it_has_our_pid_for_the_time(tmp_path: Path, before: str) -> None:
    path = tmp_path / "pid"
    if before:
        path.write_text(before)  # of one that was killed
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
        assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == []


def test_what_another_has_put_there_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with pid_file(path):
        path.unlink()
        path.write_text("1\n")
    assert path.read_text() == "1\n"


@pytest.mark.parametrize("content", ["", "export A=1\n", "1" * 100])
def test_what_is_no_pid_file_is_not_overwritten(tmp_path: Path, content: str) -> None:
    path = tmp_path / "profile"
    path.write_text(content)
    with pytest.raises(UsageError, match="profile is no pid file: choose another"), pid_file(path):
        pass
    assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


def test_where_it_cannot_be_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"), pid_file(tmp_path / "none" / "pid"):
        pass
    (tmp_path / "pid").mkdir()
    with pytest.raises(UsageError, match="pid"), pid_file(tmp_path / "pid"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["pid"]
