# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One ring buffer in shared memory: reading, switching, moving packets to a file.

The readable definitions of the same operations are `ustconsumer.ringbuffer.reader`
and `ustconsumer.ringbuffer.switch`; one test class runs on both. Offsets come from
``Geometry.places()``. Words read from shared memory are checked before they select
or size anything: a stream that contradicts itself is reported, never followed.

Barriers: loads acquire, stores release, read-modify-writes are full barriers; the
remaining pairings are named where they stand.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.buffer cimport PyObject_GetBuffer, PyBuffer_Release, PyBUF_WRITABLE
from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ustconsumer.errors import LayoutError, RingBufferError

__all__ = [
    "DRAIN_EMPTY",
    "DRAIN_ERRNO",
    "DRAIN_FULL",
    "DRAIN_HELD",
    "DRAIN_LIE",
    "DRAIN_MORE",
    "PUMP_IDLE",
    "PUMP_READY",
    "PUMP_STOPPED",
    "PUMP_TIME",
    "PUMP_WORD",
    "Ring",
    "RingSet",
]

include "state.pxi"
include "places.pxi"
include "points.pxi"
include "reading.pxi"
include "switching.pxi"
include "files.pxi"
include "draining.pxi"
include "takeover.pxi"

# What `Ring.drain` ended on.
DRAIN_EMPTY = 0   # nothing more to read now
DRAIN_MORE = 1    # the limit was reached, there may be more
DRAIN_HELD = 2    # the next sub-buffer is full but not yet committed
DRAIN_ERRNO = 3   # a write failed: ``error`` is the errno; nothing was given back
DRAIN_LIE = 4     # the memory contradicts itself: ``lie`` says what
DRAIN_FULL = 5    # the next packet would make the file larger than ``file_limit``

_LIES = {
    0: "",
    LIE_ID: "a sub-buffer id selects no page, or not its own",
    LIE_DATA_SIZE: "a packet's size is not within its sub-buffer",
    LIE_HEADER: "a packet header has another magic, stream or size than its buffer",
    LIE_SEQUENCE: "a packet's sequence number is not that of its position",
    LIE_PAGES: "the pages of the buffer are not each in one place",
    LIE_POSITION: "the consumed position is impossible or moved by itself",
}


cdef class Ring:
    """The reader's side of one ring buffer.

    Parameters
    ----------
    memory : buffer, writable
        The whole shared memory of the stream; stays exported until `release`.
    places : mapping of str to int
        ``Geometry.places()``: byte offsets and sizes, trusted (they never come
        from the memory itself).
    uuid : bytes, length 16
    stream_id : int
    cpu : int
        Identity written into packet headers by `switch`.
    wake_fd : int
        Write end of a wake-up pipe that a delivered packet is announced on; -1: none.

    Notes
    -----
    Facts: lttng-ust ``libringbuffer`` (stable-2.13), described in docs/architecture.md.
    Not thread-safe: one thread at a time per ring. Positions wrap modulo 2**64.
    """

    cdef Py_buffer _view
    cdef bint _exported
    cdef RingState _s

    def __cinit__(self):
        self._exported = False
        self._s.lie = LIE_NONE

    def __init__(self, memory, places, *, uuid=bytes(16), stream_id=0, cpu=0, wake_fd=-1):
        cdef RingState *s = &self._s
        if self._exported:
            raise RingBufferError("a ring is initialised once")
        if len(uuid) != 16:
            raise LayoutError("uuid", "16 bytes", len(uuid))
        _set_places(s, places, uuid, stream_id, cpu, wake_fd)
        PyObject_GetBuffer(memory, &self._view, PyBUF_WRITABLE)
        self._exported = True
        self._s.base = <char *> self._view.buf
        if <uint64_t> self._view.len < <uint64_t> places["file_size"]:
            length = self._view.len
            self.release()
            raise LayoutError("stream memory", f"{places['file_size']} bytes", length)

    def __dealloc__(self):
        if self._exported:
            PyBuffer_Release(&self._view)
            self._exported = False

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.release()

    def release(self):
        """Give the memory back; nothing else works afterwards."""
        if self._exported:
            self._exported = False
            self._s.base = NULL
            PyBuffer_Release(&self._view)

    cdef int _check(self) except -1:
        if not self._exported:
            raise RingBufferError("the ring's memory was released")
        return 0

    @property
    def subbuf_size(self):
        """Bytes of one sub-buffer."""
        return self._s.size

    @property
    def packet_count(self):
        """Packets drained so far."""
        return self._s.packet_count

    @property
    def byte_count(self):
        """Bytes drained so far."""
        return self._s.byte_count

    @property
    def error(self):
        """The errno of the last failed write."""
        return self._s.error

    @property
    def data_offset(self):
        """Where the next packet goes in the data file."""
        return self._s.data_offset

    @data_offset.setter
    def data_offset(self, uint64_t value):
        self._s.data_offset = value

    @property
    def index_offset(self):
        """Where the next entry goes in the index file."""
        return self._s.index_offset

    @index_offset.setter
    def index_offset(self, uint64_t value):
        self._s.index_offset = value

    @property
    def file_limit(self):
        """Bytes that the data file may have, 0 for no limit; an empty one takes any packet."""
        return self._s.file_limit

    @file_limit.setter
    def file_limit(self, uint64_t value):
        self._s.file_limit = value

    @property
    def last_discarded(self):
        """Largest ``events_discarded`` handed on; later packets carry no less."""
        return self._s.last_discarded

    @last_discarded.setter
    def last_discarded(self, uint64_t value):
        self._s.last_discarded = value

    @property
    def ahead(self):
        """Bytes behind the consumed position that were read and are not given back yet.

        Discard mode only, where nobody takes what is not given back: `readable`, and with it
        scans and `RingSet.pump`, look that much further.
        """
        return self._s.ahead

    @ahead.setter
    def ahead(self, uint64_t value):
        self._s.ahead = value

    def count_moved(self, uint64_t packets, uint64_t size):
        """Add to `packet_count` and `byte_count` what was moved in another way than `drain`."""
        self._s.packet_count += packets
        self._s.byte_count += size

    @property
    def lie(self):
        """What the memory contradicted itself in, empty if it did not."""
        return _LIES[self._s.lie]

    # -- reading -----------------------------------------------------------------

    def open(self):
        """Announce a reader: writers send wake-ups from now on."""
        self._check()
        rb_store(_word(&self._s, self._s.active_readers), 1)
        rb_fence()

    def close(self):
        """Withdraw the reader; the memory stays mapped."""
        self._check()
        rb_fence()
        rb_store(_word(&self._s, self._s.active_readers), 0)

    def positions(self):
        """Return ``(consumed, produced)``; the two are not sampled at one instant."""
        self._check()
        return rb_load(_word(&self._s, self._s.consumed)), rb_load(_word(&self._s, self._s.offset))

    def snapshot(self):
        """Sample the consumed and produced positions; False when both are in one sub-buffer."""
        cdef uint64_t position
        self._check()
        return _snapshot(&self._s, &position)

    def held(self):
        """Return whether a reader holds a sub-buffer (also one that died holding it)."""
        self._check()
        return bool(self._s.base[self._s.get_subbuf] & 1)

    def take_over(self):
        """Mend what a reader left that was killed; return whether there was anything.

        To be called before anything else is read, by the only reader: a packet that the
        dead one had in its hand is to be read again.

        Raises
        ------
        RingBufferError
            No reader leaves the pages like this: the memory lies.
        """
        cdef uint8_t *named
        cdef int status
        self._check()
        named = <uint8_t *> calloc(self._s.nr_pages, 1)
        if named == NULL:
            raise MemoryError
        with nogil:
            status = _take_over(&self._s, named)
        free(named)
        if status == _LIED:
            raise RingBufferError(_LIES[LIE_PAGES])
        return status == _MENDED

    def get(self, uint64_t position):
        """Take the sub-buffer at ``position``; False when it cannot be read now.

        Raises
        ------
        RingBufferError
            A sub-buffer is held already.
        """
        self._check()
        if self._s.base[self._s.get_subbuf] & 1:
            raise RingBufferError("a sub-buffer is held already: put it first")
        return _get(&self._s, position)

    def put(self):
        """Give the held sub-buffer back; does not move ``consumed``.

        Raises
        ------
        RingBufferError
            None is held.
        """
        self._check()
        if not self._s.base[self._s.get_subbuf] & 1:
            raise RingBufferError("no sub-buffer is held")
        _put(&self._s)

    def get_next(self):
        """Take the sub-buffer at the consumed position; False when there is none to read."""
        cdef uint64_t position
        self._check()
        if self._s.base[self._s.get_subbuf] & 1:
            raise RingBufferError("a sub-buffer is held already: put it first")
        return _snapshot(&self._s, &position) and _get(&self._s, position)

    def put_next(self):
        """Give the held sub-buffer back and move ``consumed`` past it."""
        self.put()
        _move(&self._s, _align(&self._s, rb_peek(_word(&self._s, self._s.cons_snapshot))))

    def move_consumer(self, uint64_t position):
        """Move ``consumed`` forward to ``position``; never backward."""
        self._check()
        _move(&self._s, position)

    def clear(self):
        """Forget everything delivered; sound only while no writer writes."""
        self._check()
        _switch(&self._s, False, rb_now(), False)
        _move(&self._s, _trunc(&self._s, rb_load(_word(&self._s, self._s.offset))))

    def current(self):
        """Return ``(page, data_size, position)`` of the held sub-buffer, checked.

        Returns
        -------
        page : int
            In ``[0, pages)``: its bytes start at ``data + page * subbuf_size``.
        data_size : int
            Bytes of content, header included.
        position : int

        Raises
        ------
        RingBufferError
            None is held, or its id or size is impossible.
        """
        cdef uint64_t page, size
        self._check()
        if not self._s.base[self._s.get_subbuf] & 1:
            raise RingBufferError("no sub-buffer is held")
        page = _page_of(&self._s, rb_peek(_word(&self._s, self._s.rsb_id)))
        if _page(&self._s, page) == NULL:
            raise RingBufferError(_LIES[LIE_ID])
        size = rb_peek(_data_size(&self._s, page))
        if size < self._s.header_size or size > self._s.size:
            self._s.lie = LIE_DATA_SIZE
            raise RingBufferError(f"{_LIES[LIE_DATA_SIZE]}: {size} bytes")
        return page, size, rb_peek(_word(&self._s, self._s.get_subbuf_consumed))

    def readable(self):
        """Return whether the sub-buffer at ``consumed``, and `ahead`, can be read now."""
        self._check()
        return _readable(&self._s)

    # -- switching -----------------------------------------------------------------

    def switch(self, bint final, now=None):
        """Close the sub-buffer being written.

        Parameters
        ----------
        final : bool
            At a sub-buffer boundary also write an empty packet (a "full" flush).
        now : int, optional
            CLOCK_MONOTONIC nanoseconds; default: read for every attempt.

        Returns
        -------
        bool
            Whether a packet was closed. It becomes readable when its last writer commits.
        """
        cdef uint64_t given = 0 if now is None else now
        cdef bint use_given = now is not None
        cdef bint closed
        self._check()
        with nogil:
            closed = _switch(&self._s, final, given, use_given)
        return closed

    # -- packets -------------------------------------------------------------------

    def mend_held(self):
        """Check and mend the packet of the held sub-buffer.

        Returns
        -------
        page : int
        packet_size : int
            Bytes to hand on: content rounded up to a page.
        content_size : int
            Bytes.
        sequence : int
            ``packet_seq_num``. Its writers can change the memory: what was checked is here.

        Raises
        ------
        RingBufferError
            The packet contradicts its buffer.
        """
        cdef Checked checked
        page, _, position = self.current()
        self._s.lie = _mend(&self._s, _page(&self._s, page), page, position, &checked)
        if self._s.lie:
            raise RingBufferError(_LIES[self._s.lie])
        return page, checked.packet, checked.content, checked.sequence

    def copy_held(self):
        """Check and mend the packet of the held sub-buffer; return a copy with its facts.

        Returns
        -------
        content : bytes
            Without the padding behind it.
        packet_size : int
            Bytes, padding included.
        begin, end, discarded, sequence : int
            As in its header when it was checked.

        Raises
        ------
        RingBufferError
            The packet contradicts its buffer.
        """
        cdef Checked checked
        cdef char *bytes_at
        page, _, position = self.current()
        bytes_at = _page(&self._s, page)
        self._s.lie = _mend(&self._s, bytes_at, page, position, &checked)
        if self._s.lie:
            raise RingBufferError(_LIES[self._s.lie])
        content = PyBytes_FromStringAndSize(bytes_at, <Py_ssize_t> checked.content)
        return content, checked.packet, checked.begin, checked.end, checked.discarded, checked.sequence

    def assign(self, int data_fd, int index_fd=-1, uint64_t batch=0):
        """Give the ring its files, for `RingSet.pump`; -1 takes them away. Not owned.

        Parameters
        ----------
        data_fd, index_fd : int
        batch : int
            Bytes per system call in discard mode, where it is more than `drain` or `pump` says.
        """
        self._s.data_fd = data_fd
        self._s.index_fd = index_fd
        self._s.batch = batch

    def drain(self, int data_fd, int index_fd, uint64_t max_bytes, uint64_t batch=65536):
        """Move readable packets to a file: data, then index, then the consumed position.

        Parameters
        ----------
        data_fd, index_fd : int
            Written at ``data_offset`` and ``index_offset``, which advance; index -1: none.
        max_bytes : int
            Stop after about this many bytes.
        batch : int
            Bytes per system call in discard mode (at least one sub-buffer).

        Returns
        -------
        int
            ``DRAIN_EMPTY``, ``DRAIN_MORE``, ``DRAIN_HELD``, ``DRAIN_ERRNO`` (see ``error``;
            nothing of the failed batch is released, calling again repeats it),
            ``DRAIN_LIE`` (see ``lie``; the stream should be closed) or ``DRAIN_FULL``
            (see ``file_limit``; what fits was moved).

        Notes
        -----
        Runs without the GIL.
        """
        cdef int status
        self._check()
        if self._s.base[self._s.get_subbuf] & 1:
            raise RingBufferError("a sub-buffer is held already: put it first")
        with nogil:
            if self._s.overwrite:
                status = _drain_overwrite(&self._s, data_fd, index_fd, max_bytes)
            else:
                status = _drain_discard(&self._s, data_fd, index_fd, max_bytes, batch)
        return status


include "ringset.pxi"
