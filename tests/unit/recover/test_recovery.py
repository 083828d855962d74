# SPDX-License-Identifier: MIT
"""Traces from files of buffers: whole, unfinished, damaged, and what is none."""

from __future__ import annotations

import json
import mmap
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.crashes import METADATA, PLACE, START, CrashedStream, numbers

from ustconsumer.cli import main
from ustconsumer.ctf.reading import Trace
from ustconsumer.errors import UsageError
from ustconsumer.mappers import writers_of
from ustconsumer.recover import Recovered, recover
from ustconsumer.recover.crashfile import CrashFile
from ustconsumer.ringbuffer.allocate import crash_record
from ustconsumer.ringbuffer.geometry import Geometry

#: Beginnings of what the crash block has, see `ustconsumer.abi.ring`.
ENDIAN, MAJOR, WORD_SIZE, LAYOUT_TYPE, PROD = 24, 26, 30, 31, 32
SUBBUF_SIZE, NUM_SUBBUF, MODE = 104, 112, 120


@pytest.fixture(params=[False, True], ids=["discard", "overwrite"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CrashedStream]:
    made = CrashedStream(tmp_path / "shm" / PLACE, overwrite=request.param)
    yield made
    made.close()


def recovered(tmp_path: Path, name: str = "out") -> Recovered:
    """Recover; what is written must be readable to its end, and be what is said."""
    done = recover(tmp_path / "shm", tmp_path / name)
    if done.streams:
        trace = Trace(tmp_path / name)
        assert sum(1 for _ in trace) == done.events
        packets = [packet for each in trace.streams for packet in each.packets()]
        assert len(packets) == done.packets
        assert sum(packet.packet_size for packet in packets) == done.bytes
    return done


def test_all_that_was_committed(stream: CrashedStream, tmp_path: Path) -> None:
    written = stream.write(80)
    assert stream.words.load("offset") > 2 * 4096
    stream.save()
    done = recovered(tmp_path)
    assert numbers(tmp_path / "out") == Counter(written)
    assert (done.problems, done.writers, done.unfinished) == ([], [], 1)
    # In the same directories, by the clock of the boot in which it was recorded.
    (only,) = Trace(tmp_path / "out").streams
    assert only.files[0].path == str(tmp_path / "out" / PLACE / "chan_1")
    ends = [packet.timestamp_end for packet in only.packets()]
    assert ends[-1] == START + 80_000


def test_what_a_consumer_had_taken_is_still_there(stream: CrashedStream, tmp_path: Path) -> None:
    written = stream.write(80)
    assert stream.ring.get_next()
    stream.ring.put_next()
    stream.save()
    recovered(tmp_path)
    assert numbers(tmp_path / "out") == Counter(written)


def test_what_a_reader_held_when_it_died(stream: CrashedStream, tmp_path: Path) -> None:
    written = stream.write(80)
    assert stream.ring.get_next()
    stream.save()
    assert recovered(tmp_path).problems == []
    assert numbers(tmp_path / "out") == Counter(written)


def test_the_newest_of_what_was_overwritten(tmp_path: Path) -> None:
    stream = CrashedStream(tmp_path / "shm" / PLACE, overwrite=True)
    written = stream.write(1000)
    assert len(written) == 1000
    stream.save()
    recovered(tmp_path)
    found = sorted(numbers(tmp_path / "out"))
    # Four sub-buffers of at most 40 events, the newest not full.
    assert found == list(range(found[0], 1000))
    assert 3 * 30 < len(found) <= 4 * 40
    stream.close()


@pytest.mark.parametrize("noted", [True, False])
def test_a_reader_killed_in_its_exchange(tmp_path: Path, noted: bool) -> None:
    stream = CrashedStream(tmp_path / "shm" / PLACE, overwrite=True)
    written = stream.write(80)
    before = stream.words.load("rsb_id")
    assert stream.ring.get_next()
    if not noted:
        # The page is out of the writers' table, and nothing says where.
        stream.words.store("rsb_id", before)
    stream.save()
    assert recovered(tmp_path).problems == []
    assert numbers(tmp_path / "out") == Counter(written)
    stream.close()


def test_a_page_that_was_exchanged_during_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two words that say where pages are were copied one before it, one after it."""
    stream = CrashedStream(tmp_path / "shm" / PLACE, overwrite=True)
    written = stream.write(80)
    before = stream.words.load("rsb_id")
    assert stream.ring.get_next()
    stream.words.store("rsb_id", before)
    stream.save()
    copy = CrashFile.copy

    def copy_while_somebody_writes(file: CrashFile) -> tuple[mmap.mmap, int]:
        memory, produced = copy(file)
        file.geometry.layout.control.put(memory, 0, "offset", produced + 100)
        return memory, produced

    monkeypatch.setattr(CrashFile, "copy", copy_while_somebody_writes)
    assert recovered(tmp_path).problems == []
    assert numbers(tmp_path / "out") == Counter(written)
    stream.close()


def test_an_older_packet_waits_for_a_writer(tmp_path: Path) -> None:
    """The page a reader gave for the one it holds; ``lttng-crash`` reads that instead."""
    stream = CrashedStream(tmp_path / "shm" / PLACE, overwrite=True)
    stream.write(80)
    assert stream.ring.get_next()
    stream.write(1000)
    stream.ring.put_next()
    assert stream.ring.get_next()
    stream.save()
    assert recovered(tmp_path).problems == []
    found = sorted(numbers(tmp_path / "out"))
    assert found[0] == 0
    first = next(number for number in found if number - 1 not in found and number)
    assert found == [*range(found.index(first)), *range(first, 1080)]
    assert 1080 - first > 3 * 35
    stream.close()


def test_what_a_reader_read_last_is_older_than_all_others(tmp_path: Path) -> None:
    """``lttng-crash`` takes it for the packet that is being read now."""
    stream = CrashedStream(tmp_path / "shm" / PLACE, overwrite=True)
    stream.write(80)
    assert stream.ring.get_next()
    stream.write(1000)
    # Its page cannot be put back: it stays the reader's.
    stream.ring.put_next()
    stream.save()
    assert recovered(tmp_path).problems == []
    found = sorted(numbers(tmp_path / "out"))
    assert found[0] == 0
    first = next(number for number in found if number - 1 not in found and number)
    assert found == [*range(found.index(first)), *range(first, 1080)]
    assert 30 < found.index(first) < 45 < first
    stream.close()


def test_a_writer_killed_before_its_commit(stream: CrashedStream, tmp_path: Path) -> None:
    before = stream.write(10)
    torn = stream.writer.reserve(0, stream.payload(999), stream.time + 500)
    assert not isinstance(torn, int)
    after = stream.write(60)
    stream.save()
    done = recovered(tmp_path)
    found = numbers(tmp_path / "out")
    # What follows it in its sub-buffer is behind a gap.
    lost = Counter([*before, *after]) - found
    assert found[999] == 0
    assert Counter(before) <= found
    assert 0 < lost.total() < 35
    assert (done.unfinished, done.problems) == (2, [])


def test_nothing_recorded(stream: CrashedStream, tmp_path: Path) -> None:
    stream.save()
    done = recovered(tmp_path)
    assert (done.events, done.packets, done.problems) == (0, 1, [])


def test_one_directory_alone(stream: CrashedStream, tmp_path: Path) -> None:
    written = stream.write(5)
    stream.save()
    recover(stream.path.parent, tmp_path / "out")
    assert (tmp_path / "out" / "chan_1").exists()
    assert numbers(tmp_path / "out") == Counter(written)


def test_files_are_not_changed(stream: CrashedStream, tmp_path: Path) -> None:
    stream.write(50)
    path = stream.save()
    path.chmod(0o400)
    before = path.read_bytes()
    recovered(tmp_path)
    assert path.read_bytes() == before


# -- metadata that is cut off ----------------------------------------------------------------


def test_metadata_cut_anywhere_in_its_last_declaration(tmp_path: Path) -> None:
    stream = CrashedStream(tmp_path / "shm" / PLACE)
    first = stream.write(3)
    stream.write(2, event=1)
    stream.save()
    end = METADATA.rindex("\n};") + 3
    whole = METADATA.rindex("event {", 0, end)
    metadata = stream.path.parent / "metadata"
    for cut in [*range(whole, end, 7), end - 1]:
        metadata.write_text(METADATA[:cut])
        done = recovered(tmp_path, f"out{cut}")
        assert numbers(tmp_path / f"out{cut}") == Counter(first), cut
        assert any("event 1" in line for line in done.problems)
        assert any("cut off" in line for line in done.problems) == (cut > whole)
    # Power went: the length is there, what it is of is not.
    metadata.write_bytes(METADATA[: end - 20].encode() + bytes(300))
    recovered(tmp_path, "zeros")
    assert numbers(tmp_path / "zeros") == Counter(first)
    metadata.write_text(METADATA[:end])
    assert recovered(tmp_path, "all").events == 5
    stream.close()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "metadata: metadata declares no trace with a uuid"),
        (METADATA[:1000], "metadata: metadata declares no clock"),
        (None, "metadata: there is none"),
        (METADATA.replace("0c4b900e", "0c4b900f"), "chan_1: no packet of the trace is in it"),
        (METADATA[: METADATA.index("stream {")], "chan_1: channel 0 is not declared"),
    ],
    ids=["empty", "cut", "none", "another", "undeclared"],
)
def test_metadata_that_is_of_no_use(tmp_path: Path, text: str | None, named: str) -> None:
    stream = CrashedStream(tmp_path / "shm" / PLACE)
    stream.write(3)
    stream.save()
    metadata = stream.path.parent / "metadata"
    metadata.unlink()
    if text is not None:
        metadata.write_text(text)
    with pytest.raises(UsageError, match=f"nothing to recover: {PLACE}/{named}"):
        recover(tmp_path / "shm", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    stream.close()


# -- damage ------------------------------------------------------------------------------------


def test_a_packet_is_cut_where_it_makes_no_sense(stream: CrashedStream, tmp_path: Path) -> None:
    stream.write(100)
    # The id of the sixth event of the first packet.
    first = stream.memory.find(stream.payload(5)) - 6
    stream.memory[first : first + 2] = b"\x09\x00"
    stream.save()
    done = recovered(tmp_path)
    (line,) = done.problems
    assert line.startswith(f"{PLACE}/chan_1: packet 0 ends behind 5 events: ")
    assert "event 9" in line
    found = numbers(tmp_path / "out")
    assert all(found[number] for number in range(5))
    assert not found[5]
    assert found[99]


def test_a_time_that_cannot_be_ends_its_packet(stream: CrashedStream, tmp_path: Path) -> None:
    stream.write(100)
    first = stream.memory.find(stream.payload(5)) - 6
    stream.memory[first + 2 : first + 6] = bytes(4)
    stream.save()
    (line,) = recovered(tmp_path).problems
    assert "packet 0 ends behind 5 events: " in line


def test_a_damaged_packet_is_left_out(stream: CrashedStream, tmp_path: Path) -> None:
    stream.write(100)
    at = stream.geometry.data_at(1)
    stream.memory[at : at + 4] = bytes(4)
    stream.save()
    done = recovered(tmp_path)
    assert done.problems == [f"{PLACE}/chan_1: packets that are damaged: 1"]
    found = numbers(tmp_path / "out")
    assert found[0]
    assert found[99]


def test_no_byte_behind_the_content_is_written(stream: CrashedStream, tmp_path: Path) -> None:
    geometry = stream.geometry
    for page in range(geometry.nr_pages):
        begin = geometry.data_at(page) + (geometry.header_size if page == 0 else 0)
        end = geometry.data_at(page) + geometry.subbuf_size
        stream.memory[begin:end] = b"SECRET!!" * ((end - begin) // 8) + b"S" * ((end - begin) % 8)
    stream.write(50)
    stream.save()
    recovered(tmp_path)
    assert b"SECRET" not in (tmp_path / "out" / PLACE / "chan_1").read_bytes()


# -- what is no such file ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "raw", "named"),
    [
        (ENDIAN, b"\x34\x12\x00\x00", None),
        (ENDIAN, b"\x12\x34", "other byte order"),
        (ENDIAN, b"\x00\x00", "byte order"),
        (MAJOR, b"\x01", r"version 0\.0 \(LTTng-UST 2\.12 to 2\.14\), found 1\.0"),
        (WORD_SIZE, b"\x04", "a 64-bit program"),
        (LAYOUT_TYPE, b"\x01", "buffers of user space"),
        (PROD, b"\x84", "offset prod offset"),
        (SUBBUF_SIZE, b"\x00" * 8, "possible sizes"),
        (SUBBUF_SIZE, b"\xff" * 8, "possible sizes"),
        (NUM_SUBBUF, b"\x03", "possible sizes"),
        (SUBBUF_SIZE, (1 << 30).to_bytes(8, "little"), ""),
        (SUBBUF_SIZE, (1 << 44).to_bytes(8, "little"), ""),
        (NUM_SUBBUF, (1 << 30).to_bytes(8, "little"), ""),
        (MODE, b"\x07", "mode"),
        (16, b"\xff" * 8, "mmap length"),
    ],
)
def test_other_machines_and_nonsense_are_refused_by_name(
    stream: CrashedStream, tmp_path: Path, at: int, raw: bytes, named: str | None
) -> None:
    stream.write(3)
    stream.memory[at : at + len(raw)] = raw
    stream.save()
    if named is None:
        assert recovered(tmp_path).events == 3
        return
    with pytest.raises(UsageError, match=f"chan_1: .*{named}"):
        recover(tmp_path / "shm", tmp_path / "out")


@pytest.mark.parametrize("size", [16, 100, 123, 124, 4096, 20000, -1, 1])
def test_files_of_another_size(stream: CrashedStream, tmp_path: Path, size: int) -> None:
    stream.write(3)
    path = stream.save()
    whole = stream.geometry.file_size
    os.truncate(path, size if size > 1 else whole + size)
    with pytest.raises(UsageError, match=r"chan_1: (crash block|file)"):
        recover(tmp_path / "shm", tmp_path / "out")


def test_a_sparse_file_of_any_size(tmp_path: Path) -> None:
    stream = CrashedStream(tmp_path / "shm" / PLACE)
    stream.write(3)
    stream.save()
    layout = stream.geometry.layout
    huge = Geometry(layout, 1 << 40, 4)
    block = layout.crash.pack(crash_record(huge))
    path = stream.path.with_name("chan_0")
    path.write_bytes(block)
    os.truncate(path, huge.file_size)
    done = recovered(tmp_path)
    assert done.events == 3
    (line,) = done.problems
    assert "chan_0: file" in line
    assert "all memory there is" in line
    stream.close()


def test_only_regular_files_are_opened(stream: CrashedStream, tmp_path: Path) -> None:
    written = stream.write(3)
    path = stream.save()
    os.mkfifo(path.with_name("chan_2"))
    path.with_name("chan_3").symlink_to(path)
    path.with_name("chan_4").write_text("no buffer")
    path.with_name("chan_5").mkdir()
    (tmp_path / "shm" / "elsewhere").symlink_to(path.parent)
    done = recovered(tmp_path)
    assert (done.streams, done.problems) == (1, [])
    assert numbers(tmp_path / "out") == Counter(written)


def test_metadata_that_is_a_fifo(stream: CrashedStream, tmp_path: Path) -> None:
    stream.write(3)
    metadata = stream.save().with_name("metadata")
    metadata.unlink()
    os.mkfifo(metadata)
    with pytest.raises(UsageError, match="metadata: there is none"):
        recover(tmp_path / "shm", tmp_path / "out")


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "shm").mkdir()
    with pytest.raises(UsageError, match="no buffers there"):
        recover(tmp_path / "shm", tmp_path / "out")
    with pytest.raises(UsageError, match="no such directory"):
        recover(tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_into_an_empty_directory(stream: CrashedStream, tmp_path: Path) -> None:
    stream.write(3)
    stream.save()
    out = tmp_path / "out"
    out.mkdir()
    recovered(tmp_path)
    before = sorted(out.rglob("*"))
    with pytest.raises(UsageError, match="no empty directory"):
        recover(tmp_path / "shm", out)
    assert sorted(out.rglob("*")) == before
    with pytest.raises(UsageError, match="no empty directory"):
        recover(tmp_path / "shm", stream.path)


# -- the command -----------------------------------------------------------------------------


def test_the_command(
    stream: CrashedStream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stream.write(7)
    stream.save()
    shm, out = str(tmp_path / "shm"), tmp_path / "out"
    assert main(["recover", shm, "-o", str(out)]) == 0
    captured = capsys.readouterr()
    summary, directory = captured.out.splitlines()
    assert summary.startswith("7 events recovered, 1 packets")
    assert (directory, captured.err) == (str(out), "")
    assert main(["recover", shm, "-o", str(out)]) == 1
    assert "no empty directory" in capsys.readouterr().err
    stream.path.with_name("chan_7").write_bytes(stream.memory[:5000])
    assert main(["recover", "--json", shm, "-o", str(tmp_path / "two")]) == 4
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert (answer["events"], answer["streams"], answer["path"]) == (7, 1, str(tmp_path / "two"))
    assert "chan_7: file" in answer["problems"][0]
    assert captured.err.startswith(f"Warning: {PLACE}/chan_7: file")


def test_programs_that_are_alive_are_named(stream: CrashedStream, tmp_path: Path) -> None:
    stream.write(7)
    with open(stream.save(), "r+b") as file, mmap.mmap(file.fileno(), 4096):
        if not writers_of([file.fileno()]):
            pytest.skip("this file system does not tell who maps a file")
        assert recovered(tmp_path).writers == [os.getpid()]


def test_random_bytes_as_a_file(tmp_path: Path) -> None:
    """Everything behind a good crash block is noise."""
    choose = random.Random(7)  # noqa: S311 (the same each time)
    for number in range(50):
        stream = CrashedStream(tmp_path / "shm" / PLACE, overwrite=bool(number % 2))
        stream.memory[124:] = choose.randbytes(len(stream.memory) - 124)
        stream.save()
        with pytest.raises(UsageError, match="no packet of the trace"):
            recover(tmp_path / "shm", tmp_path / "out")
        stream.close()
