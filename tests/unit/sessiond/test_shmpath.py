# SPDX-License-Identifier: MIT
"""Buffers in files: where they are made, what is refused, what is left of them."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import re
import stat
from pathlib import Path

import pytest

from sessiond import shmpath
from sessiond.declarations import DeclarationRefusedError
from sessiond.owners import Owner
from sessiond.recording import Recording
from sessiond.registry import Session
from sessiond.shmpath import MetadataText, SessionFiles
from sessiond.traces import Trace
from ustconsumer.errors import RingBufferError, UsageError
from ustconsumer.mappers import writers_of
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol.application import EventRequest
from ustconsumer.protocol.control import ChannelOptions
from ustconsumer.recover.crashfile import CrashFile

UID = os.geteuid()
OWNER = Owner(UID, "ust-9-x86_64", "2.13.5")
SMALL = ChannelOptions(subbuf_size=4096, num_subbuf=2)


def session(path: Path, name: str = "s", uid: int = UID) -> Session:
    made = Session(name=name, uid=uid, gid=0, output="", shm_path=str(path))
    made.add_channel("chan", SMALL)
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def traced(recording: Recording, owner: Owner = OWNER) -> Trace:
    return asyncio.run(recording.trace_for(owner))


def test_places_and_modes(tmp_path: Path) -> None:
    """As those of LTTng, which gives its group the directories too."""

    base = tmp_path / "new" / "shm"
    recording = Recording(session(base))
    trace = traced(recording)
    (top,) = base.iterdir()
    assert re.fullmatch(r"s-\d{8}-\d{6}", top.name)
    place = top / "ust" / "uid" / str(UID) / "64-bit"
    streams = [f"chan_{cpu}" for cpu in range(possible_cpus())]
    assert sorted(path.name for path in place.iterdir()) == [*streams, "metadata"]
    assert {mode(path) for path in place.iterdir()} == {0o600}
    directories = [base.parent, base, *(path for path in base.rglob("*") if path.is_dir())]
    assert {mode(path) for path in directories} == {0o700}
    for name, stream in zip(streams, trace.streams, strict=True):
        with open(place / name, "rb") as file:
            assert CrashFile(file.fileno()).geometry.file_size == stream.geometry.file_size
        # No holes: a page that the disk has no room for later is a SIGBUS.
        status = (place / name).stat()
        assert status.st_blocks * 512 >= status.st_size
    recording.close()
    assert list(base.iterdir()) == []


def test_an_automatic_name_has_its_date_already(tmp_path: Path) -> None:
    files = SessionFiles(session(tmp_path / "shm", "auto-20261123-120000"))
    assert [path.name for path in (tmp_path / "shm").iterdir()] == ["auto-20261123-120000"]
    files.close()


def test_two_sessions_of_a_second(tmp_path: Path) -> None:
    one = session(tmp_path / "shm")
    first, second = SessionFiles(one), SessionFiles(one)
    assert second.name == f"{first.name}-2"
    first.close()
    second.close()


def test_declarations_are_in_the_text_when_they_are_answered(tmp_path: Path) -> None:
    recording = Recording(session(tmp_path))
    trace = traced(recording)
    (metadata,) = tmp_path.rglob("metadata")
    assert metadata.read_text().startswith("/* CTF 1.8 */")
    (channel,) = trace.channels
    trace.metadata.stream_class(channel, ())
    assert "stream {" in metadata.read_text()
    trace.metadata.event(channel, EventRequest(0, 0, "p:one", 13, "", (), ""))
    assert "p:one" in metadata.read_text()
    recording.close()


def test_a_full_disk_refuses_the_declaration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Recording(session(tmp_path))
    trace = traced(recording)
    (metadata,) = tmp_path.rglob("metadata")
    (channel,) = trace.channels
    before = metadata.read_bytes()
    real, calls = os.pwrite, 0

    def full(fd: int, raw: bytes, offset: int) -> int:
        nonlocal calls
        if os.readlink(f"/proc/self/fd/{fd}") != str(metadata):
            return real(fd, raw, offset)
        calls += 1
        if calls > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, raw[:10], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DeclarationRefusedError, match="No space left"):
        trace.metadata.stream_class(channel, ())
    monkeypatch.undo()
    # Not a part of it.
    assert metadata.read_bytes() == before
    trace.metadata.stream_class(channel, ())
    assert metadata.read_bytes() > before
    recording.close()


def test_programs_of_others_get_none(tmp_path: Path) -> None:
    recording = Recording(session(tmp_path))
    other = Owner(UID + 1, "ust-9-x86_64", "2.13.5")
    with pytest.raises(RingBufferError, match=f"programs of uid {UID} only"):
        traced(recording, other)
    recording.close()


def test_sessions_of_others_have_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"uid {UID} only"):
        SessionFiles(session(tmp_path, uid=UID + 1))
    assert list(tmp_path.iterdir()) == []


def test_directories_that_are_refused(tmp_path: Path) -> None:
    everybody = tmp_path / "everybody"
    everybody.mkdir()
    everybody.chmod(0o777)
    file = tmp_path / "file"
    file.write_text("")
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    for path, named in (
        (everybody, "changed by everybody"),
        (file, "Not a directory"),
        (file / "below", "Not a directory"),
        (dangling / "below", "No such file"),
        (Path("relative"), "not absolute"),
    ):
        with pytest.raises(UsageError, match=named):
            SessionFiles(session(path))
    assert not (tmp_path / "nowhere").exists()
    assert list(everybody.iterdir()) == []


def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    if os.getuid():
        with pytest.raises(UsageError, match="belongs to uid 0"):
            SessionFiles(session(Path("/")))
        return
    os.chown(tmp_path, 4242, 4242)
    try:
        with pytest.raises(UsageError, match="belongs to uid 4242"):
            SessionFiles(session(tmp_path))
    finally:
        os.chown(tmp_path, 0, 0)


def test_a_link_in_the_part_that_is_made(tmp_path: Path) -> None:
    """Somebody who was faster than we are."""
    files = SessionFiles(session(tmp_path / "shm"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    top = tmp_path / "shm" / files.name
    (top / "ust").symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"(symbolic links|Not a directory)"):
        files.trace("ust/uid/1/64-bit")
    (top / "ust").unlink()
    trace = files.trace("ust/uid/1/64-bit")
    place = top / "ust" / "uid" / "1" / "64-bit"
    (place / "metadata").symlink_to(elsewhere / "metadata")
    with pytest.raises(FileExistsError):
        trace.metadata()
    assert list(elsewhere.iterdir()) == []
    trace.remove()
    files.close()


def test_a_file_system_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, raw: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    recording = Recording(session(tmp_path))
    real = Trace.allocate

    def allocate(self: Trace) -> None:
        monkeypatch.setattr(os, "pwrite", full)
        try:
            real(self)
        finally:
            monkeypatch.undo()

    monkeypatch.setattr(Trace, "allocate", allocate)
    with pytest.raises(RingBufferError, match=r"chan_0 of .* bytes: No space left"):
        traced(recording)
    # Nothing of it is left, and the next one finds the way free.
    assert list(tmp_path.rglob("chan_*")) == []
    traced(recording)
    recording.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_hides_who_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shmpath, "writers_of", lambda fds: {})
    recording = Recording(session(tmp_path))
    with pytest.raises(RingBufferError, match="does not tell who has a file mapped"):
        traced(recording)
    recording.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_mapped_is_told(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w+b") as file:
        os.ftruncate(file.fileno(), 4096)
        with mmap.mmap(file.fileno(), 4096):
            found = writers_of([file.fileno()])
        assert list(found.values()) == [{os.getpid()}]


def test_a_file_that_was_cut_off_does_not_end_the_registry(tmp_path: Path) -> None:
    recording = Recording(session(tmp_path))
    trace = traced(recording)
    for path in tmp_path.rglob("chan_*"):
        os.truncate(path, 0)
    # Each of these maps them: a touch would be a SIGBUS.
    assert {info.produced for info in recording.info([]).streams} == {0}
    trace.set_paused(True)
    trace.switch(True)
    with pytest.raises(RingBufferError, match="chan_0 was cut off"):
        next(trace.streams).map()
    recording.close()


def test_what_others_put_there_stays(tmp_path: Path) -> None:
    recording = Recording(session(tmp_path))
    traced(recording)
    (metadata,) = tmp_path.rglob("metadata")
    note = metadata.with_name("note")
    note.write_text("mine")
    recording.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [note]


def test_text_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "metadata"
    text = MetadataText(os.open(path, os.O_RDWR | os.O_CREAT))
    text.append("a;")
    text.append("ü;")
    assert path.read_text() == "a;ü;"
    text.close()
    text.close()


def test_metadata_file_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "metadata"
    text = MetadataText(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    text.append("first, which is longer\n")
    for each in ("second\n", "third, which is longer than both\n"):
        text.restart(each)
        assert path.read_text() == each
        text.append("more\n")
        assert path.read_text() == f"{each}more\n"
    text.close()


def test_metadata_file_that_cannot_start_over_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metadata"
    text = MetadataText(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    text.append("first\n")

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space"):
            text.restart("second, which is longer\n")
    text.append("more\n")
    text.close()
    assert path.read_text() == "first\nmore\n"
