# SPDX-License-Identifier: MIT
from __future__ import annotations

import errno
import os
import random
import signal
import struct
import time
from collections import deque
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ustconsumer.consumer.spool import Spool

_LIMIT = 20_000
#: Before each packet's content: magic, size, checksum, five numbers.
_HEADER = 52
_U64 = (1 << 64) - 1
_KEYS = ("0", "7", "12")


def facts(number: int) -> tuple[int, ...]:
    return (number, 0, _U64, number * 3, _U64 - number)


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.exists() else []


def taken(spool: Spool, key: str) -> list[bytes]:
    """Return all packets of a stream, and let go of them."""
    found = []
    while spool.count(key):
        found.append(spool.read(key, 0)[0])
        spool.pop(key)
    return found


def test_first_in_first_out_for_each_stream(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s")
    for number in range(5):
        spool.append("1", b"one%d" % number, facts(number))
        spool.append("2", b"two%d" % number, facts(number + 10))
    assert (spool.count("1"), spool.count("2"), spool.count("3")) == (5, 5, 0)
    assert sorted(spool.keys()) == ["1", "2"]
    assert spool.read("1", 3) == (b"one3", facts(3))
    assert spool.read("2", 0) == (b"two0", facts(10))
    spool.pop("1")
    assert spool.read("1", 0) == (b"one1", facts(1))
    assert taken(spool, "2") == [b"two%d" % number for number in range(5)]
    spool.close()


def test_what_is_left_is_there_for_who_comes_next(tmp_path: Path) -> None:
    first = Spool(tmp_path / "s")
    for number in range(6):
        first.append("1", bytes([number]) * 100, facts(number))
    first.pop("1")
    first.pop("1")
    first.close()
    second = Spool(tmp_path / "s")
    assert [second.read("1", at) for at in range(second.count("1"))] == [
        (bytes([number]) * 100, facts(number)) for number in range(2, 6)
    ]
    second.append("1", b"next", facts(6))
    assert second.read("1", 4) == (b"next", facts(6))
    second.close()


def test_of_a_consumer_that_was_killed_nothing_comes_twice(tmp_path: Path) -> None:
    # Never closed: that is what a kill leaves behind.
    killed = Spool(tmp_path / "s")
    for number in range(6):
        killed.append("1", b"%d" % number, facts(number))
    killed.pop("1")
    killed.pop("1")
    next_one = Spool(tmp_path / "s")
    assert next_one.size == 4 * (_HEADER + 1)
    assert taken(next_one, "1") == [b"2", b"3", b"4", b"5"]


def test_nothing_is_left_when_everything_was_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "below" / "s")
    spool.append("1", b"packet", facts(0))
    assert len(files(spool.directory)) == 1
    spool.pop("1")
    assert files(spool.directory) == []
    assert spool.size == 0
    spool.close()
    assert not spool.directory.exists()
    assert spool.directory.parent.exists()


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        spool = Spool(tmp_path / "below" / "s")
        spool.append("1", b"packet", facts(0))
    finally:
        os.umask(before)
    assert (tmp_path / "below").stat().st_mode & 0o777 == 0o700
    assert spool.directory.stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_mode & 0o777 for file in files(spool.directory)] == [0o600]


def test_a_full_spool_refuses_all_of_a_packet(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", 3 * (_HEADER + 100))
    for number in range(3):
        spool.append("1", bytes(100), facts(number))
    before = [(file, file.read_bytes()) for file in files(spool.directory)]
    with pytest.raises(OSError, match="full") as caught:
        spool.append("2", b"", facts(9))
    assert caught.value.errno == errno.ENOSPC
    assert [(file, file.read_bytes()) for file in files(spool.directory)] == before
    assert spool.keys() == ["1"]
    spool.pop("1")
    spool.append("2", bytes(100), facts(3))
    assert spool.count("2") == 1


def test_a_disk_that_is_full_leaves_no_part_of_a_packet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "s")
    spool.append("1", b"whole", facts(0))
    write = os.pwrite
    room = [10]

    def pwrite(fd: int, raw: bytes | memoryview, offset: int) -> int:
        size = min(len(raw), room[0])
        if not size:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= size
        return write(fd, bytes(raw[:size]), offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(OSError, match="No space"):
            spool.append("1", bytes(1000), facts(1))
        assert room == [0]
    assert sum(file.stat().st_size for file in files(spool.directory)) == _HEADER + 5
    spool.append("1", b"after", facts(2))
    assert taken(Spool(tmp_path / "s"), "1") == [b"whole", b"after"]


@pytest.mark.parametrize("cut", [1, 30, 52, 53, 151])
def test_a_torn_end_is_cut(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path / "s")
    for number in range(3):
        spool.append("1", bytes(100), facts(number))
    (file,) = files(spool.directory)
    os.truncate(file, file.stat().st_size - cut)
    after = Spool(tmp_path / "s")
    assert after.count("1") == 2
    assert file.stat().st_size == 2 * (_HEADER + 100)
    after.append("1", b"new", facts(2))
    assert after.read("1", 2) == (b"new", facts(2))


@pytest.mark.parametrize("at", [0, 5, 9, 20, 51, 52, 151])
def test_damage_is_noticed(tmp_path: Path, at: int) -> None:
    spool = Spool(tmp_path / "s")
    for number in range(2):
        spool.append("1", bytes(100), facts(number))
    (file,) = files(spool.directory)
    raw = bytearray(file.read_bytes())
    raw[_HEADER + 100 + at] ^= 0x80
    file.write_bytes(raw)
    with pytest.raises(OSError, match="not what was kept"):
        spool.read("1", 1)
    assert Spool(tmp_path / "s").count("1") == 1


def test_files_that_are_not_its_own_stay(tmp_path: Path) -> None:
    mine, other = tmp_path / "s-1", tmp_path / "s-2"
    kept = Spool(other)
    kept.append("1", b"of another session", facts(0))
    mine.mkdir(mode=0o700)
    (mine / "notes").write_text("not a packet")
    spool = Spool(mine)
    assert spool.keys() == []
    spool.append("1", b"mine", facts(0))
    assert taken(spool, "1") == [b"mine"]
    spool.close()
    assert (mine / "notes").read_text() == "not a packet"
    assert taken(Spool(other), "1") == [b"of another session"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * 500)
    directory = tmp_path / "s"
    directory.mkdir(mode=0o700)
    (directory / "1-00000000").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        Spool(directory)
    assert victim.read_bytes() == b"x" * 500
    (tmp_path / "link").symlink_to(directory)
    with pytest.raises(PermissionError, match="ours alone"):
        Spool(tmp_path / "link")


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(PermissionError, match="ours alone"):
        Spool(directory)


def test_files_go_one_by_one(tmp_path: Path) -> None:
    """With a limit, room comes back before the last packet was sent."""
    spool = Spool(tmp_path / "s", 16 * 1024)
    sent = 0
    for number in range(200):
        while True:
            try:
                spool.append("1", struct.pack("<I", number) * 100, facts(number))
                break
            except OSError:
                assert spool.read("1", 0)[0] == struct.pack("<I", sent) * 100
                spool.pop("1")
                sent += 1
        assert sum(file.stat().st_size for file in files(spool.directory)) <= 16 * 1024
        # Of 16 files at most one is there in part only.
        assert spool.count("1") == number + 1 - sent
    assert sent > 150


class AsAList(RuleBasedStateMachine):
    """The spool of a consumer that is killed every now and then, beside lists."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self._place = tempfile.TemporaryDirectory()
        self.directory = Path(self._place.name) / "s"
        self.spool = Spool(self.directory, _LIMIT)
        self.model: dict[str, deque[tuple[bytes, tuple[int, ...]]]] = {
            key: deque() for key in _KEYS
        }

    @rule(
        key=st.sampled_from(_KEYS),
        content=st.one_of(
            st.binary(max_size=200), st.integers(0, 9000).map(lambda size: b"\xa5" * size)
        ),
        numbers=st.tuples(*[st.integers(0, _U64)] * 5),
    )
    def append(self, key: str, content: bytes, numbers: tuple[int, ...]) -> None:
        size = _HEADER + len(content)
        before = self.stored()
        if before + size > _LIMIT:
            with pytest.raises(OSError, match="full"):
                self.spool.append(key, content, numbers)
            assert self.stored() == before
        else:
            self.spool.append(key, content, numbers)
            assert self.stored() == before + size
            self.model[key].append((content, numbers))

    @precondition(lambda self: any(self.model.values()))
    @rule(chance=st.randoms(use_true_random=False))
    def pop(self, chance: random.Random) -> None:
        key = chance.choice([key for key in _KEYS if self.model[key]])
        self.spool.pop(key)
        self.model[key].popleft()

    @rule()
    def close(self) -> None:
        self.spool.close()
        assert self.directory.exists() == any(self.model.values())
        self.spool = Spool(self.directory, _LIMIT)

    @rule(torn=st.binary(max_size=60), key=st.sampled_from(_KEYS))
    def die(self, torn: bytes, key: str) -> None:
        """Be killed, perhaps in the middle of an append."""
        mine = sorted(self.directory.glob(f"{key}-*"))
        if mine:
            with open(mine[-1], "ab") as file:
                file.write(torn)
        self.spool = Spool(self.directory, _LIMIT)

    @invariant()
    def the_same(self) -> None:
        assert sorted(self.spool.keys()) == sorted(key for key in _KEYS if self.model[key])
        expected = 0
        for key, packets in self.model.items():
            count = self.spool.count(key)
            assert [self.spool.read(key, at) for at in range(count)] == list(packets)
            expected += sum(_HEADER + len(content) for content, _ in packets)
        assert self.spool.size == expected

    def stored(self) -> int:
        return sum(file.stat().st_size for file in files(self.directory))

    def teardown(self) -> None:
        self._place.cleanup()


TestAsAList = AsAList.TestCase
TestAsAList.settings = settings(max_examples=40, deadline=None)


def _work(directory: Path, said: int) -> None:
    """Append and pop for ever, and say what was done."""
    spool = Spool(directory)
    number = 0
    while True:
        content = struct.pack("<Q", number) * (1 + number * 37 % 3000)
        spool.append("1", content, facts(number))
        os.write(said, b"+")
        number += 1
        if number % 3 == 0:
            spool.pop("1")
            os.write(said, b"-")


@pytest.mark.repeat(ci=10, soak=300)
def test_killed_at_any_moment(tmp_path: Path, repeat: int) -> None:
    """What was appended is there, what was let go is not; of the last step, either."""
    for turn in range(repeat):
        directory = tmp_path / str(turn)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.close(reading)
                _work(directory, writing)
            finally:
                os._exit(1)
        os.close(writing)
        steps = os.read(reading, 1)
        time.sleep(random.uniform(0, 0.03))  # noqa: S311
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while more := os.read(reading, 1 << 16):
            steps += more
        os.close(reading)
        appended, popped = steps.count(b"+"), steps.count(b"-")
        spool = Spool(directory)
        found = [struct.unpack_from("<Q", each)[0] for each in taken(spool, "1")]
        first, end = (found[0], found[-1] + 1) if found else (appended, appended)
        assert found == list(range(first, end))
        assert first in (popped, popped + 1)
        assert end in (appended, appended + 1)
        spool.close()
        assert not directory.exists()
