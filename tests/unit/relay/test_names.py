# SPDX-License-Identifier: MIT
"""Names from the network stay below a relay's directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ustconsumer.errors import RemoteProtocolError
from ustconsumer.relay.names import Directory, check_name, split_path, split_stream_path

HOSTILE = ["", ".", "..", ".hidden", "a/b", "/a", "a\0b", "a\nb", "\x1b[31m", "x" * 256, "é" * 128]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_a_name(name: str) -> None:
    with pytest.raises(RemoteProtocolError, match="session name"):
        check_name(name, "session name")


def test_names_are_taken_up_to_what_a_file_system_takes() -> None:
    assert check_name("x" * 255, "name") == "x" * 255
    assert check_name("Web Content é", "name") == "Web Content é"


@pytest.mark.parametrize("path", ["..", "a/../b", "../a", "a/..", "./a", "/..", "a//../b"])
def test_paths_do_not_lead_up(path: str) -> None:
    with pytest.raises(RemoteProtocolError):
        split_path(path, "base path")
    with pytest.raises(RemoteProtocolError):
        split_stream_path(path, "stream path")


def test_a_path_is_not_too_deep() -> None:
    with pytest.raises(RemoteProtocolError, match="directories"):
        split_path("d/" * 200, "base path")
    with pytest.raises(RemoteProtocolError, match="directories"):
        split_stream_path("d/" * 200, "stream path")


def test_a_leading_slash_means_nothing() -> None:
    assert split_path("/host//name", "base path") == ("host", "name")


def test_programs_are_called_what_they_like() -> None:
    path = "ust/pid/.wrapped\n\x1b-7-20261123-170000"
    assert split_stream_path(path, "path") == ("ust", "pid", ".wrapped__-7-20261123-170000")


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A directory with links out of it, to a directory and to a file."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("precious")
    (tmp_path / "out" / "real").mkdir(parents=True)
    (tmp_path / "out" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "out" / "real" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "out" / "real" / "file").symlink_to(tmp_path / "outside" / "file")
    return tmp_path


@pytest.mark.parametrize("steps", [("link",), ("link", "a"), ("real", "link"), ("real", "file")])
def test_links_are_not_followed(planted: Path, steps: tuple[str, ...]) -> None:
    with Directory.at(planted / "out") as root, pytest.raises(OSError, match=r".+"):
        root.open(steps)
    assert os.listdir(planted / "outside") == ["file"]


@pytest.mark.parametrize("new", [False, True])
def test_files_are_no_links(planted: Path, new: bool) -> None:
    with Directory.at(planted / "out" / "real") as real, pytest.raises(OSError, match=r".+"):
        real.open_file("file", new=new)
    assert (planted / "outside" / "file").read_text() == "precious"


def test_removing_a_tree_removes_links_and_not_where_they_lead(planted: Path) -> None:
    with Directory.at(planted / "out") as root:
        root.remove_tree("real")
        root.remove_tree("link")
    assert os.listdir(planted / "out") == []
    assert (planted / "outside" / "file").read_text() == "precious"


def test_no_descriptor_is_left(planted: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with Directory.at(planted / "out") as root:
        for steps in (("link",), ("real", "link"), ("real", "file"), ("real", "new")):
            try:
                root.open(steps).close()
            except OSError:
                continue
    assert os.listdir("/proc/self/fd") == before
