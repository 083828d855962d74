# SPDX-License-Identifier: MIT
"""``drtrace unpack``; the compressed files are made by zstd's own program."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.handmade import write

from ustconsumer.cli import main
from ustconsumer.client.unpack import unpack
from ustconsumer.errors import UsageError

pytestmark = pytest.mark.peers("zstd")

Made = tuple[Path, Path]


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A plain trace, and the same compressed, but for a file of somebody."""
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    write(plain / "ust" / "uid", 3)
    (plain / "notes.txt").write_text("mine")
    (plain / "ust" / "uid" / "index").mkdir()
    (plain / "ust" / "uid" / "index" / "empty.idx").write_bytes(b"")
    shutil.copytree(plain, packed)
    for path in (packed / "ust").rglob("*"):
        if path.is_file():
            subprocess.run(["zstd", "-q", "--rm", path], check=True)
    assert len(list(packed.rglob("*.zst"))) == 3
    return plain, packed


def test_the_plain_trace_is_beside(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    plain, packed = made
    before = contents(packed)
    assert main(["unpack", str(packed)]) == 0
    beside = packed.with_name("packed-plain")
    assert contents(beside) == contents(plain)
    assert contents(packed) == before
    assert capsys.readouterr().out.splitlines()[-1] == str(beside)
    assert main(["unpack", str(packed)]) == 1, "it is not empty any more"
    assert "not empty" in capsys.readouterr().err


def test_the_plain_trace_is_where_it_is_wanted(made: Made, tmp_path: Path) -> None:
    plain, packed = made
    done = unpack(packed, tmp_path / "a" / "b")
    assert contents(tmp_path / "a" / "b") == contents(plain)
    compressed = list(packed.rglob("*.zst"))
    assert done.files == len(compressed) == 3
    assert done.stored == sum(path.stat().st_size for path in compressed)
    assert done.bytes == sum(len(raw) for raw in contents(plain / "ust").values())
    assert not done.problems


def test_the_plain_files_come_in_place_of_the_others(made: Made) -> None:
    plain, packed = made
    assert unpack(packed, in_place=True).files == 3
    assert contents(packed) == contents(plain)


def test_what_is_refused_changes_nothing(made: Made, tmp_path: Path) -> None:
    plain, packed = made
    before = contents(tmp_path)
    for source, output in (
        (plain, tmp_path / "out"),
        (tmp_path / "absent", None),
        (packed, packed / "below"),
        (packed, plain),
        (packed / "notes.txt", None),
    ):
        with pytest.raises(UsageError):
            unpack(source, output)
    assert contents(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_what_is_damaged_or_cut_off_is_said(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """The rest is unpacked; in place the damaged file stays."""
    plain, packed = made
    damaged, cut = packed / "ust/uid/channel0_3.zst", packed / "ust/uid/metadata.zst"
    raw = damaged.read_bytes()
    damaged.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    whole = cut.read_bytes()
    cut.write_bytes(whole + whole[:-1])
    assert main(["--json", "unpack", str(packed)]) == 4
    printed = capsys.readouterr()
    assert "channel0_3.zst" in printed.err
    assert f"the last {len(whole) - 1} bytes are no frame" in printed.err
    assert len(json.loads(printed.out)["problems"]) == 2
    wanted = {**contents(plain), "ust/uid/channel0_3": b""}
    assert contents(packed.with_name("packed-plain")) == wanted
    unpack(packed, in_place=True)
    left = contents(packed)
    assert set(left) == {
        "notes.txt",
        "ust/uid/index/empty.idx",
        "ust/uid/channel0_3.zst",
        "ust/uid/metadata.zst",
    }


def test_links_are_not_followed(made: Made, tmp_path: Path) -> None:
    _, packed = made
    secret = tmp_path / "secret.zst"
    shutil.copy(packed / "ust/uid/metadata.zst", secret)
    (packed / "link.zst").symlink_to(secret)
    (packed / "loop").symlink_to(packed)
    unpack(packed, tmp_path / "out")
    assert not any(path.name in ("link", "loop") for path in (tmp_path / "out").rglob("*"))
