# SPDX-License-Identifier: MIT
"""Which session a verb acts on."""

from __future__ import annotations

from pathlib import Path

import pytest

from ustconsumer.cli import current
from ustconsumer.errors import UsageError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LTTNG_HOME", str(tmp_path))
    monkeypatch.delenv("LTTNG_UST_CTL_PATH", raising=False)
    monkeypatch.delenv("DRTRACE_SESSION", raising=False)
    return tmp_path


def test_option_beats_variable_beats_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no current recording session"):
        current.choose(None, None)
    current.remember("created", None)
    assert current.choose(None, None) == "created"
    monkeypatch.setenv("DRTRACE_SESSION", "variable")
    assert current.choose(None, None) == "variable"
    assert current.choose("option", None) == "option"


def test_the_file_is_like_lttngs(home: Path) -> None:
    current.remember("demo", None)
    assert (home / ".drtracerc").read_text() == "session=demo\n"


def test_only_the_destroyed_session_is_forgotten(home: Path) -> None:
    current.remember("one", None)
    current.forget("two", None)
    assert current.choose(None, None) == "one"
    current.forget("one", None)
    assert list(home.iterdir()) == []


def test_another_home_has_another_current_session(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    current.remember("mine", None)
    current.remember("theirs", str(other / ".lttng"))
    assert current.choose(None, None) == "mine"
    assert current.choose(None, str(other / ".lttng")) == "theirs"
    assert (other / ".drtracerc").exists()
