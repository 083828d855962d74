# SPDX-License-Identifier: MIT
"""A trace on disk, compressed: each packet one zstd frame, every file named ``.zst``.

``zstd -d`` of each file gives the trace that `ustconsumer.consumer.sinks.disk` writes.
"""

from __future__ import annotations

import contextlib
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import zstandard

from ustconsumer._native.ring import Ring
from ustconsumer.abi.packet import INDEX_ENTRY, METADATA_PACKET
from ustconsumer.consumer.packet import Packet, Stream, Trace
from ustconsumer.consumer.sinks.disk import INDEX_HEADER_BYTES, DiskSink
from ustconsumer.consumer.sinks.framefile import Compressor
from ustconsumer.consumer.sinks.layout import (
    MetadataFile,
    open_file,
    refuse_beside,
    trace_directory,
)
from ustconsumer.consumer.sinks.packed import PackedFiles, last_entry
from ustconsumer.consumer.sinks.tracefiles import Tracefiles
from ustconsumer.consumer.sinks.writeback import WriteBack
from ustconsumer.ctf.frames import MAX_FRAME, SUFFIX, seek_table
from ustconsumer.ctf.packets import begins
from ustconsumer.errors import UsageError

__all__ = ["ZstdSink", "ZstdWriter"]

_NAMES = [row.name for row in INDEX_ENTRY]


class ZstdSink(DiskSink):
    """Write a session below a directory, compressed.

    Parameters
    ----------
    output : path
        The session's directory; made with its parents when the first stream comes.
    level : int
        1 to 22.
    chunk, following : str
        As of `DiskSink`.
    """

    def __init__(
        self,
        output: str | os.PathLike[str],
        level: int,
        *,
        chunk: str = "",
        following: str = "",
    ) -> None:
        super().__init__(output, chunk=chunk, following=following)
        self._compressor = Compressor(level)

    @property
    def workers(self) -> int:
        """As many as there are CPUs for us: a packet is compressed by one."""
        return len(os.sched_getaffinity(0))

    def open(self, stream: Stream) -> ZstdWriter:  # type: ignore[override]
        """Create or continue the stream's files.

        Raises
        ------
        OSError
            A directory or file cannot be made.
        UsageError
            The directory holds another trace, or files that are not ours.
        """
        if stream.geometry.subbuf_size > MAX_FRAME:
            raise UsageError(
                f"sub-buffers of {stream.geometry.subbuf_size} bytes are not compressed: "
                f"{MAX_FRAME} at most"
            )
        return ZstdWriter(self._tracefiles(self._directory(stream), stream), self._compressor)

    def _tracefiles(self, directory: Path, stream: Stream) -> Tracefiles:
        return Tracefiles(directory, stream, _last_entry, SUFFIX)

    def _open_metadata(self, trace: Trace, chunk: Path) -> MetadataFile:
        directory = trace_directory(chunk, trace.path)
        refuse_beside(directory / "metadata")
        return _ZstdMetadataFile(directory / f"metadata{SUFFIX}", trace.uuid, self._compressor)


class ZstdWriter:
    """Data and index files of one stream; whoever calls `write` compresses.

    Parameters
    ----------
    tracefiles : Tracefiles
        Where they are. Their size is that of the packets, as if they were not compressed:
        ``zstd -d`` gives the files that LTTng writes.
    compressor : Compressor
    """

    def __init__(self, tracefiles: Tracefiles, compressor: Compressor) -> None:
        self._tracefiles = tracefiles
        self._compressor = compressor
        self._open(*tracefiles.last())

    @property
    def ends(self) -> tuple[int | None, int]:
        """Where the files end: as of `DiskWriter`."""
        if not self._files.count:
            return None, 0
        last = INDEX_ENTRY.get_all(self._files.entry(self._files.count - 1))
        return last["packet_seq_num"] + 1, last["events_discarded"]

    def attach(self, ring: Ring) -> None:
        """Go on where the files end: exactly once on disk, whoever was killed when."""
        following, discarded = self.ends
        if following is not None:
            ring.last_discarded = discarded
            # Only forward; a position is a word that wraps.
            ring.move_consumer(following * ring.subbuf_size % (1 << 64))

    def write(self, packets: Sequence[Packet]) -> None:
        """Append packets: data, then index. Releases the GIL while it compresses."""
        for packet in packets:
            if not self._tracefiles.fits(self._files.frames.plain_end, packet.packet_size):
                self._next_file()
            # A copy: its writers may change the packet, and frame, checksum and index must
            # say the same.
            raw = self._compressor.copy(packet.raw)
            header = packet.stream.geometry.layout.packet.get_all(raw)
            header["offset"] = self._files.frames.plain_end
            entry = INDEX_ENTRY.pack({name: header[name] for name in _NAMES})
            self._files.frames.add(self._compressor.frame(raw), len(raw))
            try:
                self._files.index(entry)
            except BaseException:
                self._files.cut()
                raise
        self._writeback.advance(self._files.frames.end)

    def close(self) -> None:
        """Write the seek table; close both files."""
        self._files.close()

    def _open(self, data: Path, index: Path) -> None:
        data_fd = open_file(data)
        try:
            index_fd = open_file(index)
        except BaseException:
            os.close(data_fd)
            raise
        self._files = PackedFiles(data_fd, index_fd, INDEX_HEADER_BYTES, where=str(data))
        self._writeback = WriteBack(data_fd, self._files.frames.end)

    def _next_file(self) -> None:
        """Go on with the next file; the one before is complete."""
        before = self._files
        self._open(*self._tracefiles.following())
        self._tracefiles.step()
        before.close()


class _ZstdMetadataFile(MetadataFile):
    """``metadata.zst``: each text that was appended is one frame, to be read at once."""

    def __init__(self, path: Path, uuid: bytes, compressor: Compressor) -> None:
        super().__init__(path, uuid)
        self._compressor = compressor
        self._sizes = array("I")

    def append(self, text: bytes) -> None:
        if begins(text):
            self._start_over()
        packets = self._packets.append(text)
        frame = self._compressor.frame(packets)
        self._put(frame)
        self._sizes.extend((len(frame), len(packets)))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._put(seek_table(self._sizes))
        super().close()

    def _start_over(self) -> None:
        super()._start_over()
        del self._sizes[:]

    def _head(self) -> bytes:
        decompressor = zstandard.ZstdDecompressor()
        with open(self._fd, "rb", closefd=False) as file:
            try:
                return decompressor.stream_reader(file).read(METADATA_PACKET.size)
            except zstandard.ZstdError:
                return b"?"


def _last_entry(fd: int) -> bytes | None:
    return last_entry(fd, INDEX_HEADER_BYTES)
