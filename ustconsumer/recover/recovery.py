# SPDX-License-Identifier: MIT
"""Goes through a directory tree, finds buffers, writes what is in them as a trace."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import stat
from collections.abc import Generator, Iterator
from pathlib import Path

import msgspec

from ustconsumer.consumer.sinks.layout import (
    MetadataFile,
    make_directory,
    open_file,
    plain_name,
    trace_directory,
    write_all,
)
from ustconsumer.errors import DecodeError, LayoutError, UsageError
from ustconsumer.mappers import File, file_of, writers_of_files
from ustconsumer.recover.crashfile import CrashFile, is_crash_file
from ustconsumer.recover.declarations import WholeText, read_text, whole_text
from ustconsumer.recover.stream import Findings, recovered_packets
from ustconsumer.recover.walk import RecordWalk

__all__ = ["Recovered", "recover"]

_METADATA = "metadata"
#: Reasons that are named of each stream.
_NAMED = 3


class Recovered(msgspec.Struct, kw_only=True):
    """What `recover` found."""

    #: directory of the trace
    path: str
    events: int = 0
    packets: int = 0
    #: files with packets
    streams: int = 0
    bytes: int = 0
    #: packets of which only the beginning was committed, and is here
    unfinished: int = 0
    #: processes that still write to the buffers
    writers: list[int] = []
    #: what could not be read and why, one line each
    problems: list[str] = []


def recover(path: str | os.PathLike[str], directory: str | os.PathLike[str]) -> Recovered:
    """Write what is left in the files of buffers as a trace.

    Parameters
    ----------
    path : path
        A directory below which a session had its buffers (``--shm-path``), of this package
        or of LTTng. Not changed; symbolic links in it are not followed.
    directory : path
        Where the trace goes: made, with its parents; absent or empty. It gets the same
        directories as those below ``path``.

    Returns
    -------
    Recovered

    Raises
    ------
    UsageError
        No buffers there, none that can be read, or the directory is not empty.
    OSError
        The trace cannot be written; nothing is left of it.
    """
    output = Path(directory)
    existed = output.exists()
    if existed and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} is no empty directory: choose another one")
    result = Recovered(path=os.fspath(output))
    found = False
    files: list[File] = []
    try:
        make_directory(output)
        for place in _places(Path(path)):
            found = True
            place.recover(output, result)
            result.problems += place.problems
            files += place.files
        if not found:
            raise UsageError(f"{os.fspath(path)}: no buffers there")
        if not result.streams and result.problems:
            raise UsageError(f"{os.fspath(path)}: nothing to recover: {result.problems[0]}")
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)
        if existed:
            output.mkdir(exist_ok=True)
        raise
    result.writers = sorted({pid for pids in writers_of_files(files).values() for pid in pids})
    return result


def _places(top: Path) -> Iterator[_Place]:
    """Yield the directories with buffers; each is closed when the next one is asked for."""
    if not top.is_dir():
        raise UsageError(f"{top}: no such directory: name that of --shm-path")

    def failed(error: OSError) -> None:
        raise UsageError(f"{error.filename}: {error.strerror}")

    # Never through symbolic links: what we open is below `top`, whatever happens there.
    for name, directories, files, fd in os.fwalk(top, follow_symlinks=False, onerror=failed):
        directories.sort()
        place = _Place(os.path.relpath(name, top), sorted(files), fd)
        if place.streams or place.problems:
            yield place


def _open_regular(name: str, directory: int) -> int | None:
    """Open a file of a directory for reading; None if it is none, or not there any more."""
    # A FIFO would have us wait, a device might do something.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            return None
        fd = os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


class _Place:
    """A directory, and the buffers in it.

    Parameters
    ----------
    path : str
        Below the one that is recovered.
    names : list of str
    fd : int
        Of the directory; not owned.

    Attributes
    ----------
    streams : list of str
        Files with buffers.
    files : list
        Identities of those that were read.
    """

    def __init__(self, path: str, names: list[str], fd: int) -> None:
        self.problems: list[str] = []
        self.files: list[File] = []
        self._path = path
        self._fd = fd
        self._text: tuple[int, WholeText] | None = None
        self.streams = [name for name in names if name != _METADATA and self._is_stream(name)]

    def _is_stream(self, name: str) -> bool:
        try:
            fd = _open_regular(name, self._fd)
            if fd is None:
                return False
            try:
                return is_crash_file(fd) and bool(plain_name(name))
            finally:
                os.close(fd)
        except (UsageError, OSError) as error:
            self._complain(name, _reason(error))
        return False

    def recover(self, output: Path, result: Recovered) -> None:
        """Write the trace of this directory, unless nothing of it can be read."""
        text = self._declared()
        if text is None:
            return
        before = result.streams
        for name in self.streams:
            self._try_stream(name, output, result)
        # After the packets: programs that are alive declare events before they record them.
        text = self._declared() or text
        if text.problem:
            self._complain(_METADATA, text.problem)
        if result.streams != before:
            file = MetadataFile(trace_directory(output, self._path) / _METADATA, text.trace.uuid)
            try:
                file.append(text.text)
            finally:
                file.close()

    def _declared(self) -> WholeText | None:
        """Return the metadata as it is by now, None if there is none or it makes no sense."""
        fd = None
        try:
            fd = _open_regular(_METADATA, self._fd)
            if fd is None:
                raise DecodeError("there is none: nothing says what was recorded")
            size = os.fstat(fd).st_size
            if self._text is None or self._text[0] != size:
                self._text = size, whole_text(read_text(fd))
        except (DecodeError, OSError) as error:
            if self._text is None:
                self._complain(_METADATA, _reason(error))
                return None
        finally:
            if fd is not None:
                os.close(fd)
        return self._text[1]

    def _try_stream(self, name: str, output: Path, result: Recovered) -> None:
        """Write what is left in a file."""
        fd = None
        try:
            fd = _open_regular(name, self._fd)
            if fd is None:
                raise LayoutError("file", "a regular file", "one that was removed meanwhile")
            self.files.append(file_of(fd))
            file = CrashFile(fd)
            memory, produced = file.copy()
        except (LayoutError, OSError) as error:
            self._complain(name, _reason(error))
            return
        finally:
            if fd is not None:
                os.close(fd)
        with memory:
            self._stream(name, file, memory, produced, output, result)

    def _stream(
        self,
        name: str,
        file: CrashFile,
        memory: mmap.mmap,
        produced: int,
        output: Path,
        result: Recovered,
    ) -> None:
        text = self._declared()
        assert text is not None
        trace = text.trace
        identity = file.identity(memory, trace.uuid)
        if identity is None:
            self._complain(name, "no packet of the trace is in it")
            return
        if identity.stream_id not in trace.streams:
            # Where nobody recorded anything there is nothing to tell.
            if produced > file.geometry.header_size:
                self._complain(
                    name, f"channel {identity.stream_id} is not declared in the metadata"
                )
            return
        try:
            walk = RecordWalk(trace, identity.stream_id)
        except DecodeError as error:
            self._complain(name, str(error))
            return
        findings = Findings()
        packets = recovered_packets(
            memory,
            file.geometry,
            produced,
            identity=identity,
            walk=walk,
            findings=findings,
        )
        size = _write(packets, trace_directory(output, self._path) / name)
        for line in _problems(findings):
            self._complain(name, line)
        result.events += findings.events
        result.packets += findings.packets
        result.unfinished += findings.unfinished + findings.torn
        result.bytes += size
        result.streams += size > 0

    def _complain(self, name: str, reason: str) -> None:
        self.problems.append(f"{os.path.normpath(os.path.join(self._path, name))}: {reason}")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _write(packets: Generator[bytes, None, None], path: Path) -> int:
    """Write packets to a new file; return their bytes. Without packets there is no file."""
    fd = open_file(path)
    at = 0
    try:
        # Closed before the memory is.
        with contextlib.closing(packets):
            for packet in packets:
                write_all(fd, packet, at)
                at += len(packet)
    finally:
        os.close(fd)
    if not at:
        path.unlink()
    return at


def _problems(findings: Findings) -> list[str]:
    lines = [*findings.cut[:_NAMED]]
    if len(findings.cut) > _NAMED:
        lines.append(f"{len(findings.cut) - _NAMED} more packets are cut off like this")
    if findings.lost:
        lines.append(f"packets that are damaged: {findings.lost}")
    return lines
