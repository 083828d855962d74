# SPDX-License-Identifier: MIT
"""Session files: what is written is read, and what is none is refused with its line."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ustconsumer.client.saved import SavedSession
from ustconsumer.client.sessionfiles import read_saved, write_saved
from ustconsumer.client.sessionreader import read_sessions
from ustconsumer.client.sessionwriter import write_session
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import (
    ChannelInfo,
    ChannelOptions,
    Destination,
    EventInfo,
    RotationSchedule,
    SnapshotOutput,
)

_TEXT = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1)
_NUMBER = st.integers(0, (1 << 63) - 1)
_EVENTS = st.builds(
    EventInfo,
    pattern=_TEXT,
    enabled=st.booleans(),
    loglevel_type=st.just(0),
    exclusions=st.lists(_TEXT, max_size=3),
    filter=st.just("") | _TEXT,
) | st.builds(
    EventInfo, pattern=_TEXT, loglevel_type=st.sampled_from([1, 2]), loglevel=st.integers(0, 14)
)
_CONTEXTS = st.sampled_from(
    ["vpid", "procname", "vuid", "perf:thread:cs", "perf:thread:raw:r1f:x_y", "$app.a:b:c"]
)
_DESTINATIONS = st.sampled_from(
    [
        Destination(),
        Destination(url="net://host:5342:5343", live_us=1000),
        Destination(url="net6://[::1]:1:3/there", data_url="tcp6://[::2]:3"),
        Destination(url="net+tls+zstd://host:1:2", spool="/spool", spool_size=5),
        Destination(zstd=3),
    ]
)


def _channels(names: list[str], buffers: str) -> st.SearchStrategy[list[ChannelInfo]]:
    options = st.builds(
        ChannelOptions,
        subbuf_size=_NUMBER,
        num_subbuf=_NUMBER,
        mode=st.sampled_from(["discard", "overwrite"]),
        buffers=st.just(buffers),
        switch_timer_us=_NUMBER,
        read_timer_us=_NUMBER,
        monitor_timer_us=_NUMBER,
        blocking_timeout_us=st.integers(-1, 1 << 40),
        tracefile_size=_NUMBER,
        tracefile_count=_NUMBER,
    )
    return st.tuples(
        *(
            st.builds(
                ChannelInfo,
                name=st.just(name),
                enabled=st.booleans(),
                options=options,
                contexts=st.lists(_CONTEXTS, unique=True),
                events=st.lists(_EVENTS, max_size=3),
            )
            for name in names
        )
    ).map(list)


@st.composite
def _sessions(draw: st.DrawFn) -> SavedSession:
    names = draw(st.lists(_TEXT, unique=True, max_size=2))
    channels = draw(_channels(names, draw(st.sampled_from(["uid", "pid"]))))
    values = st.lists(st.from_regex(r"[1-9][0-9]{0,8}|[a-z]{1,8}", fullmatch=True), unique=True)
    trackers = st.dictionaries(st.sampled_from(["vpid", "vuid", "vgid"]), values)
    snapshot = draw(st.booleans())
    output = SnapshotOutput(name="snap", path="/there", max_size=draw(_NUMBER))
    return SavedSession(
        name=draw(_TEXT),
        output="/out" if not snapshot else "",
        destination=Destination() if snapshot else draw(_DESTINATIONS),
        snapshot=snapshot,
        shm_path=draw(st.sampled_from(["", "/shm/x"])),
        started=draw(st.booleans()),
        rotation=RotationSchedule(timer_us=draw(_NUMBER), size=draw(_NUMBER)),
        trackers=draw(trackers) if channels else {},
        channels=channels,
        outputs=[output] if snapshot and draw(st.booleans()) else [],
    )


@settings(max_examples=100)
@given(_sessions())
def test_what_is_written_is_read(saved: SavedSession) -> None:
    (found,) = read_sessions(write_session(saved).encode())
    saved.warnings.clear()
    assert found == saved


@settings(max_examples=200)
@given(st.data())
def test_damaged_files_are_refused_or_read(data: st.DataObject) -> None:
    raw = bytearray(write_session(data.draw(_sessions())).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UsageError):
        read_sessions(bytes(raw))


LAUGHS = b"""<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<sessions><session><name>&b;</name></session></sessions>"""


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "line 1"),
        (b"no xml", "line 1"),
        (b'<?xml version="1.0" encoding="UUF-8"?><sessions/>', "line 1: unknown encoding: UUF-8"),
        (b'<?xml version="1.0" encoding="UTF-7"?><sessions/>', "line 1: multi-byte encodings"),
        (LAUGHS, "document types and entities"),
        (b"<a>" * 100, "more than 32 elements"),
        (b"<sessions>" + b" " * (17 << 20) + b"</sessions>", "at most"),
        (b"<list/>", "begins with <sessions>"),
        (b"<sessions>\n<session/></sessions>", "line 2, <session>: it has no name"),
        (
            b"<sessions><session><name>a</name>\n<started>maybe</started></session></sessions>",
            "line 2, <started>: 'maybe' is neither",
        ),
    ],
)
def test_what_is_no_session_file(raw: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read_sessions(raw)


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        ("<type>UST</type><buffer_type>SHARED</buffer_type>", "PER_UID or PER_PID"),
        ("<type>UST</type><channels><channel/></channels>", "has no name"),
        (
            "<type>UST</type><channels><channel><name>c</name>\n"
            "<subbuffer_size>big</subbuffer_size></channel></channels>",
            "line 2, <subbuffer_size>: 'big' is no number",
        ),
        (
            "<type>UST</type><channels><channel><name>c</name>"
            "<subbuffer_size>-1</subbuffer_size></channel></channels>",
            "-1 is not in 0",
        ),
        (
            "<type>UST</type><channels><channel><name>c</name><contexts><context>"
            "<type>CALLSTACK_USER</type></context></contexts></channel></channels>",
            "no context 'callstack_user'",
        ),
        (
            "<type>UST</type><channels><channel><name>c</name><output_type>SPLICE</output_type>"
            "</channel></channels>",
            "MMAP only",
        ),
    ],
)
def test_values_that_cannot_be(inside: str, reason: str) -> None:
    raw = (
        "<sessions><session><name>a</name><domains><domain>"
        f"{inside}</domain></domains></session></sessions>"
    )
    with pytest.raises(UsageError, match=reason):
        read_sessions(raw.encode())


def test_other_domains_are_said_to_be_left_out() -> None:
    raw = b"""<sessions><session><name>a</name><domains>
        <domain><type>JUL</type><channels/></domain>
        <domain><type>KERNEL</type><channels><channel><name>k</name></channel></channels></domain>
        </domains></session></sessions>"""
    (saved,) = read_sessions(raw)
    assert saved.warnings == ["session a: events of domain KERNEL are left out: not yet"]


def test_a_file_is_written_whole_and_not_over_another(tmp_path: Path) -> None:
    saved = SavedSession(name="a", output="/there")
    path = Path(write_saved(saved, str(tmp_path / "new")))
    assert path == tmp_path / "new" / "a.lttng"
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o660 & ~mask
    with pytest.raises(CommandError, match="already exists"):
        write_saved(saved, str(path.parent))
    bad = SavedSession(name="a", output="/\x01")
    with pytest.raises(UsageError, match="cannot have"):
        write_saved(bad, str(path.parent), overwrite=True)
    assert read_saved(str(path.parent)) == [saved]
    assert read_saved(str(path)) == [saved]
    assert read_saved(str(path.parent), "b") == []
    assert os.listdir(path.parent) == ["a.lttng"]
