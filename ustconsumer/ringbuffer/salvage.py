# SPDX-License-Identifier: MIT
"""What of a torn sub-buffer was committed: found by walking its records.

A process that dies between reserving and committing leaves bytes that nobody wrote, a
*hole*, somewhere among the records of others. How many bytes are missing is known
exactly, from the commit count; where they are is not. A guess is right if what is left
when the hole is cut out is nothing but whole known records, in the order of their times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ustconsumer.abi.event import COMPACT_EVENT, EXTENDED_EVENT, EXTENDED_ID
from ustconsumer.ctf.skip import FIXED, OPAQUE, SEQUENCE, STRING, Steps

__all__ = ["RecordReader", "Salvaged", "Torn", "salvage"]

#: Bits of the time that a compact header carries.
_STAMP_BITS = 32
_STAMPS = 1 << _STAMP_BITS
#: The tracer writes the time in full when it differs from the one before by this or more.
_FULL_AFTER = 1 << 27
#: Records looked at for one sub-buffer before we give up; less than a second.
_BUDGET = 200_000
#: Bytes that are copied in the time of looking at one record.
_COPIED = 1 << 12
#: The smallest thing that can be missing inside the content.
_LEAST = COMPACT_EVENT.size


class _Exhausted(Exception):  # noqa: N818 (no error: the search ends)
    pass


@dataclass(frozen=True)
class Torn:
    """What is known of a sub-buffer with a hole.

    Attributes
    ----------
    data : bytes
        The whole sub-buffer.
    header : int
        Bytes of the packet header, with which the records begin.
    prefix : int
        Bytes that were committed without a gap; 0 also if only the header was.
    missing : int
        Bytes that were not committed: all holes together.
    content : int
        Where the content ends and the padding begins, as the process that closed the
        sub-buffer noted; 0 if it died before that.
    perhaps : int
        The same, if that process died in the middle of noting it.
    begin : int or None
        Time before the first record, None if not known.
    latest : int
        No record is later than this.
    opened : bool
        The packet header is there; it may be committed or not.
    """

    data: bytes
    header: int
    prefix: int
    missing: int
    content: int
    perhaps: int
    begin: int | None
    latest: int
    opened: bool


@dataclass(frozen=True)
class Salvaged:
    """Which bytes make up the mended packet.

    Attributes
    ----------
    end : int
        Where the content ended.
    holes : tuple of (start, length)
        To be cut out of it, in order.
    first, last : int or None
        Times of the first and the last record.
    lost : int
        Bytes that were committed, but could not be told from the hole.
    """

    end: int
    holes: tuple[tuple[int, int], ...] = ()
    first: int | None = None
    last: int | None = None
    lost: int = 0


class RecordReader:
    """Walks the records of one stream class.

    Parameters
    ----------
    known : mapping of event id to steps
        Over contexts and payload, as `ustconsumer.ctf.skip.records` returns them.
    """

    def __init__(self, known: Mapping[int, Steps]) -> None:
        self._known = known
        #: Some records cannot be walked: nothing that is found can be proved.
        self.opaque = any(op == OPAQUE for pairs in known.values() for op, _ in pairs)
        self._left = 0

    def restart(self, size: int) -> None:
        """Begin a search in a sub-buffer of so many bytes."""
        self._left = _BUDGET + size // 4

    def spend(self, steps: int) -> None:
        """Count against the budget."""
        self._left -= steps
        if self._left < 0:
            raise _Exhausted

    def step(self, data: bytes, at: int, end: int) -> tuple[int, int, bool] | None:
        """Return the end of the record at ``at``, its time, and whether that is complete.

        None if there is no whole record of a known event below ``end``.
        """
        self.spend(1)
        if end - at < COMPACT_EVENT.size:
            return None
        event_id: int = COMPACT_EVENT.get(data, at, "id")
        full = event_id == EXTENDED_ID
        if full:
            if end - at < EXTENDED_EVENT.size:
                return None
            event_id = EXTENDED_EVENT.get(data, at, "id")
            stamp: int = EXTENDED_EVENT.get(data, at, "timestamp")
            at += EXTENDED_EVENT.size
        else:
            stamp = COMPACT_EVENT.get(data, at, "timestamp")
            at += COMPACT_EVENT.size
        pairs = self._known.get(event_id)
        if pairs is None:
            return None
        for operation, argument in pairs:
            if operation == FIXED:
                at += argument
            elif operation == STRING:
                nul = data.find(b"\0", at, end)
                if nul < 0:
                    return None
                at = nul + 1
            elif operation == OPAQUE:
                return None
            else:
                width = 1 << (operation - SEQUENCE)
                if end - at < width:
                    return None
                at += width + int.from_bytes(data[at : at + width], "little") * argument
            if at > end:
                return None
        return at, stamp, full


def _later(time: int, stamp: int, full: bool, limit: int) -> int | None:
    """Return the time of a record that follows one at ``time``, None if that cannot be."""
    if full:
        return stamp if stamp >= time else None
    # The next moment with these low bits, as every reader of the trace does.
    moment = time + (stamp - time) % _STAMPS
    return moment if moment - time < limit else None


@dataclass
class _Walk:
    """How far records make sense."""

    at: int
    time: int | None
    first: int | None = None


class _Search:
    """The search for the holes of one sub-buffer."""

    def __init__(self, torn: Torn, reader: RecordReader) -> None:
        self._torn = torn
        self._reader = reader

    def run(self) -> Salvaged | None:
        """Return the first guess that is right, None if there is none."""
        torn = self._torn
        # The prefix is advisory: a late commit can make it too long by chance, another
        # that is later still leaves it short.
        trusted = max(torn.prefix, torn.header)
        prefix = self.walk(torn.data, torn.header, trusted, torn.begin).at
        if torn.content and prefix >= torn.content:
            return self._without(torn.content)
        sizes = list(self._sizes())
        for end, inside in sizes:
            found = self._one(end, inside, prefix)
            if found is not None:
                return found
        trail: list[int] = []
        self.walk(torn.data, torn.header, len(torn.data), torn.begin, trail=trail)
        # What looks complete at the end of the prefix may have been written, not committed.
        return (
            self._two(sizes, prefix)
            or self._elsewhere(sizes, prefix, trail)
            or self._two(sizes, trail[-1] if trail else prefix)
        )

    def walk(
        self,
        data: bytes,
        at: int,
        end: int,
        time: int | None,
        cut: int = -1,
        trail: list[int] | None = None,
    ) -> _Walk:
        """Walk the records from ``at`` until ``end`` or one that cannot be.

        Parameters
        ----------
        cut : int
            Where bytes were cut out: what was there may have had a later time.
        trail : list of int, optional
            Takes the end of each record.
        """
        latest = self._torn.latest
        walk = _Walk(at, time)
        while walk.at < end:
            record = self._reader.step(data, walk.at, end)
            if record is None:
                break
            after, stamp, full = record
            if walk.time is not None:
                limit = _STAMPS if walk.at == cut else _FULL_AFTER
                moment = _later(walk.time, stamp, full, limit)
            else:
                moment = stamp if full else latest - (latest - stamp) % _STAMPS
            if moment is None or moment > latest:
                break
            walk.at, walk.time = after, moment
            if walk.first is None:
                walk.first = moment
            if trail is not None:
                trail.append(after)
        return walk

    def _without(self, end: int, *holes: tuple[int, int]) -> Salvaged | None:
        """Return what is left without some holes, if it makes sense."""
        torn = self._torn
        self._reader.spend(len(torn.data) // _COPIED)
        data, cut, removed = torn.data[:end], -1, 0
        for at, length in holes:
            cut = at - removed
            data = data[:cut] + data[cut + length :]
            removed += length
        # A header that its writer did not write says nothing of the first record's time.
        cut = cut if torn.opened or cut > torn.header else torn.header
        walk = self.walk(data, torn.header, len(data), torn.begin, cut)
        if walk.at != len(data):
            return None
        last = walk.time if walk.first is not None else None
        return Salvaged(end, tuple(hole for hole in holes if hole[1]), walk.first, last)

    def _sizes(self) -> Iterator[tuple[int, int]]:
        """Yield (end of content, bytes missing in it) that the counts allow, likely ones first."""
        torn = self._torn
        size, missing, header = len(torn.data), torn.missing, torn.header
        # Was the header committed? If it is not even there, it was not.
        headers = [header] if torn.prefix < header else [0]
        if torn.prefix < header and torn.opened:
            headers.append(0)
        for content in (torn.content, torn.perhaps):
            if not header <= content <= size:
                continue
            # Who closed it died before the padding was committed; or it was.
            padding = size - content
            for inside in (missing - padding, missing) if padding else (missing,):
                yield from ((content, inside - each) for each in headers if inside >= each)
        if not torn.content:
            # Where the content ends follows from how much is missing inside it.
            for inside in (0, *range(_LEAST, missing + 1)):
                for each in reversed(headers):
                    if inside + each <= missing:
                        yield size - missing + inside + each, inside

    def _one(self, end: int, inside: int, at: int) -> Salvaged | None:
        """Try one hole at a place."""
        if not self._torn.header <= at <= end - inside or not self._begins(at + inside, end):
            return None
        return self._without(end, (at, inside))

    def _begins(self, at: int, end: int) -> bool:
        """Return whether a record can begin here: cheaper than a walk."""
        return at == end or self._reader.step(self._torn.data, at, end) is not None

    def _elsewhere(
        self, sizes: list[tuple[int, int]], prefix: int, trail: list[int]
    ) -> Salvaged | None:
        """Look for the hole behind what is known to be committed."""
        torn = self._torn
        for end, inside in sizes:
            if end == torn.content and end in trail:
                # A record that was written and not committed: nothing tells it from others.
                return self._without(end)
            # The farthest first: records make sense up to the hole, seldom behind it.
            places = [at for at in reversed(trail) if prefix < at <= end - inside]
            for at in places if torn.content else places[:1]:
                found = self._one(end, inside, at)
                if found is not None:
                    return found
        return None

    def _two(self, sizes: list[tuple[int, int]], at: int) -> Salvaged | None:
        """Look for two holes, the first at a place, the second where records make no sense."""
        torn = self._torn
        for end, inside in sizes if torn.content else ():
            self._reader.spend(1)
            for length in range(_LEAST, inside - _LEAST + 1):
                if at + length > end or not self._begins(at + length, end):
                    continue
                self._reader.spend(len(torn.data) // _COPIED)
                data = torn.data[:at] + torn.data[at + length : end]
                walk = self.walk(data, torn.header, len(data), torn.begin, at)
                second, rest = walk.at + length, inside - length
                if walk.at > at and second + rest <= end:
                    found = self._without(end, (at, length), (second, rest))
                    if found is not None:
                        return found
        return None


def salvage(torn: Torn, reader: RecordReader | None) -> Salvaged:
    """Find out which bytes of a torn sub-buffer are committed records.

    Parameters
    ----------
    torn : Torn
    reader : RecordReader or None
        None if the layout of the records is not known: then only what was committed
        without a gap is kept.

    Returns
    -------
    Salvaged
        If nothing can be proved, what lies before the hole; ``lost`` says what that costs.
    """
    if reader is not None and not reader.opaque:
        reader.restart(len(torn.data))
        search = _Search(torn, reader)
        try:
            found = search.run()
        except _Exhausted:
            found = None
        if found is not None:
            return found
    return _prefix_only(torn, reader)


def _prefix_only(torn: Torn, reader: RecordReader | None) -> Salvaged:
    end = max(torn.prefix, torn.header)
    last = None
    if reader is not None and not reader.opaque:
        reader.restart(len(torn.data))
        walk = _Search(torn, reader).walk(torn.data, torn.header, end, torn.begin, -1)
        end, last = walk.at, walk.time if walk.first is not None else None
    size = len(torn.data)
    committed = size - torn.missing
    if torn.content and committed > end:
        # With the padding, unless that is missing too.
        committed -= min(size - torn.content, committed - end)
    return Salvaged(end, (), None, last, max(committed - end, 0))
