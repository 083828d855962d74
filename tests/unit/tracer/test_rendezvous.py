# SPDX-License-Identifier: MIT
"""Places and wait words (application facts, 1.1 to 1.3)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ustconsumer.tracer.rendezvous import Place, WaitWord, places, register_timeout


@pytest.mark.parametrize(("everybody", "mode"), [(False, 0o640), (True, 0o666)])
@pytest.mark.parametrize("umask", [0o022, 0o777, 0])
def test_word_is_made_as_liblttng_ust_makes_it(
    tmp_path: Path, everybody: bool, mode: int, umask: int
) -> None:
    path = tmp_path / "word"
    before = os.umask(umask)
    try:
        word = WaitWord(str(path), everybody)
    finally:
        os.umask(before)
    assert word.value() == 0
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.stat().st_size == 4096
    word.close()
    assert path.exists()


def test_word_that_is_there_is_only_read(tmp_path: Path) -> None:
    path = tmp_path / "word"
    path.write_bytes(b"\1\0\0\0" + bytes(4092))
    path.chmod(0o664)
    before = path.stat()
    word = WaitWord(str(path), everybody=True)
    assert word.value() == 1
    path.write_bytes(bytes(4096))
    assert word.value() == 0
    with pytest.raises(TypeError):
        word.memory[0] = 1
    word.close()
    after = path.stat()
    assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)


def test_word_that_nobody_lengthened(tmp_path: Path) -> None:
    path = tmp_path / "word"
    path.touch(0o640)
    word = WaitWord(str(path), everybody=False)
    assert (word.value(), path.stat().st_size) == (0, 4096)
    word.close()


def test_word_that_becomes_shorter_kills_nobody(tmp_path: Path) -> None:
    path = tmp_path / "word"
    word = WaitWord(str(path), everybody=False)
    os.truncate(path, 0)
    assert word.value() is None
    word.close()


def test_word_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "word")
    WaitWord(path, everybody=False).close()
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(PermissionError):
        WaitWord(path, everybody=False)
    assert Place(str(tmp_path), path).word is None
    # The global one is root's.
    WaitWord(path, everybody=True).close()


def test_word_that_leads_elsewhere(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / "word").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        WaitWord(str(tmp_path / "word"), everybody=True)
    assert target.read_bytes() == b"precious"


@pytest.fixture
def shm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep off the words of this machine."""
    monkeypatch.setattr(
        "ustconsumer.tracer.rendezvous.wait_word_path", lambda uid: str(tmp_path / f"word-{uid}")
    )


@pytest.mark.usefixtures("shm")
def test_places(tmp_path: Path) -> None:
    both = places({"HOME": "/h", "LTTNG_HOME": "/l"})
    assert [place.socket_path for place in both] == [
        "/var/run/lttng/lttng-ust-sock-8",
        "/l/.lttng/lttng-ust-sock-8",
    ]
    words = [place.word.path for place in both if place.word]
    assert words == [str(tmp_path / "word-None"), str(tmp_path / f"word-{os.getuid()}")]
    assert places({"HOME": "/h"})[1].rundir == "/h/.lttng"
    assert len(places({})) == 1


@pytest.mark.usefixtures("shm")
@pytest.mark.parametrize("call", ["geteuid", "getegid"])
def test_places_of_a_set_uid_program(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    real = getattr(os, call)()
    monkeypatch.setattr(os, call, lambda: real + 1)
    (place,) = places({"HOME": "/h", "LTTNG_HOME": "/l"})
    assert place.rundir == "/var/run/lttng"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, 3.0), ("500", 0.5), ("0", 0.0), ("-1", None), ("soon", 3.0), ("", 3.0)],
)
def test_register_timeout(value: str | None, seconds: float | None) -> None:
    env = {} if value is None else {"LTTNG_UST_REGISTER_TIMEOUT": value}
    assert register_timeout(env) == seconds
