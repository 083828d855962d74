# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Reading along in one ring buffer: no lock, nothing written, the memory may be read-only.

The readable definitions are in `ustconsumer.ringbuffer.observer`; one test class runs on
both. A packet is copied (by the kernel, straight from the mapping) and judged afterwards:
the copy is good if its header is that of the wanted packet and the write position has not
gone so far that a writer could have been in it. What the header says is read once, from
a copy of our own, checked, and then used.
"""

from cpython.buffer cimport PyObject_GetBuffer, PyBuffer_Release, PyBUF_SIMPLE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from ustconsumer.errors import LayoutError, RingBufferError

__all__ = [
    "OBSERVE_DAMAGED",
    "OBSERVE_ELSEWHERE",
    "OBSERVE_ERRNO",
    "OBSERVE_OPEN",
    "OBSERVE_OVERTAKEN",
    "OBSERVE_WHOLE",
    "ObservedRing",
]

include "state.pxi"
include "places.pxi"
include "points.pxi"
include "files.pxi"

cdef enum:
    _WHOLE = 0
    _OVERTAKEN = 1
    _OPEN = 2
    _ELSEWHERE = 3
    _DAMAGED = 4
    _FAILED = 5

OBSERVE_WHOLE = _WHOLE            # copied
OBSERVE_OVERTAKEN = _OVERTAKEN    # writers were faster: gone for good
OBSERVE_OPEN = _OPEN              # not everything in it is committed
OBSERVE_ELSEWHERE = _ELSEWHERE    # not where it should be: a reader has it, or the memory lies
OBSERVE_DAMAGED = _DAMAGED        # its header contradicts itself, or the packet before it
OBSERVE_ERRNO = _FAILED           # a write failed: ``error`` is the errno

cdef enum:
    HEADER_ROOM = 128
    #: Packets in one system call: three pieces each.
    BATCH = 20

cdef char _ZEROS[PAGE]
memset(_ZEROS, 0, PAGE)


# A packet that was found: its header as it was when it was checked, and where the rest is.
cdef struct Found:
    char head[HEADER_ROOM]
    char *page
    Checked checked


cdef bint _gone(RingState *r, uint64_t position) noexcept nogil:
    """Whether a writer may have stored to a packet's memory before now.

    Such a store follows a reservation that puts the write position more than a turn
    beyond the packet. Whoever calls this after a copy has made its loads before ours.
    """
    rb_acquire()
    return rb_load(_word(r, r.offset)) - position > r.total


cdef int _read_header(RingState *r, uint64_t position, uint64_t number, Found *found) noexcept nogil:
    """Copy and check the header on a page: is it that packet's, does it make sense?"""
    cdef uint32_t magic, stream_id
    cdef uint64_t sequence, content, packet
    cdef Checked *checked = &found.checked
    if number >= r.nr_pages:
        return _ELSEWHERE
    found.page = r.base + r.data + number * r.size
    memcpy(found.head, found.page, r.header_size)
    memcpy(&magic, found.head + r.h_magic, 4)
    memcpy(&sequence, found.head + r.h_seq, 8)
    if magic != DATA_MAGIC or sequence != position >> r.size_order:
        return _ELSEWHERE
    memcpy(&stream_id, found.head + r.h_stream_id, 4)
    memcpy(&content, found.head + r.h_content, 8)
    memcpy(&packet, found.head + r.h_packet, 8)
    memcpy(&checked.begin, found.head + r.h_ts_begin, 8)
    memcpy(&checked.end, found.head + r.h_ts_end, 8)
    memcpy(&checked.discarded, found.head + r.h_discarded, 8)
    checked.sequence = sequence
    checked.content = content // 8
    checked.packet = packet // 8
    if stream_id != r.stream_id or memcmp(found.head + r.h_uuid, r.uuid, 16):
        return _DAMAGED
    return _WHOLE


cdef int _check_sizes(RingState *r, Found *found) noexcept nogil:
    """Check what the header of a delivered packet says of sizes and times."""
    cdef Checked *checked = &found.checked
    cdef uint64_t bits
    memcpy(&bits, found.head + r.h_content, 8)
    if bits & 7 or not r.header_size <= checked.content <= r.size:
        return _DAMAGED
    memcpy(&bits, found.head + r.h_packet, 8)
    if bits != (checked.content + PAGE - 1) // PAGE * PAGE * 8 or checked.begin > checked.end:
        return _DAMAGED
    return _WHOLE


cdef int _find(RingState *r, uint64_t position, bint delivered, Found *found) noexcept nogil:
    """Find the page of a packet and read its header.

    ``delivered``: only a packet that is, whose id says so.
    """
    cdef uint64_t id = rb_load(_wsb(r, _index(r, position)))
    cdef int status = _ELSEWHERE
    if not r.overwrite:
        return _read_header(r, position, _index(r, position), found)
    if not delivered or (id & NOREF and (id >> TURN_SHIFT) << TURN_SHIFT == _turn_tag(r, position)):
        status = _read_header(r, position, id & PAGE_BITS, found)
    if status == _ELSEWHERE:
        # While a reader holds it the writers' table shows the reader's spare page. Where it
        # says it is need not be true: the sequence number tells.
        status = _read_header(r, position, rb_load(_word(r, r.rsb_id)) & PAGE_BITS, found)
    return status


cdef int _look(RingState *r, uint64_t position, Found *found) noexcept nogil:
    """Find a delivered packet; after a copy of it ``_gone`` says whether that is good."""
    cdef int status
    if not _committed(r, position):
        return _OVERTAKEN if _gone(r, position) else _OPEN
    status = _find(r, position, True, found)
    if status == _WHOLE:
        status = _check_sizes(r, found)
    return _OVERTAKEN if status != _WHOLE and _gone(r, position) else status


cdef uint64_t _prefix(RingState *r, uint64_t position) noexcept nogil:
    """Return how many bytes of a sub-buffer are committed from its beginning on.

    ``seq`` says it, but lags: the last of several commits out of order does not see that it
    closes a gap. What is committed in all, compared with what was reserved afterwards, does.
    """
    cdef uint64_t index = _index(r, position)
    cdef uint64_t base = _turn_units(r, position)
    cdef uint64_t counted = (rb_load(_cc(r, index)) - base) & r.mask
    cdef uint64_t reserved = rb_load(_word(r, r.offset)) - position
    cdef uint64_t prefix
    if reserved > r.size:
        reserved = r.size
    if counted == reserved:
        prefix = counted
    else:
        prefix = (rb_load(_seq(r, index)) - base) & r.mask
    return prefix if prefix <= reserved else 0


cdef class ObservedRing:
    """An observer's view of one ring buffer.

    Parameters
    ----------
    memory : buffer
        The whole shared memory of the stream, read-only or not; stays exported until
        `release`.
    places : mapping of str to int
        ``Geometry.places()``: trusted, never from the memory itself.
    uuid : bytes, length 16
    stream_id : int
    cpu : int
        Identity in the headers of its packets; others are damaged.

    Attributes
    ----------
    data_offset : int
        Where `write` goes on in the file.
    status : int
        Why the last `take` or `take_open` returned nothing; an ``OBSERVE_*`` value.
    error : int
        errno of a failed write.

    Notes
    -----
    Any number of observers, consumers and writers may use the memory at the same time.
    Not thread-safe: one thread at a time per object.
    """

    cdef Py_buffer _view
    cdef bint _exported
    cdef RingState _s
    cdef uint64_t _last_end
    cdef readonly int status

    def __cinit__(self):
        self._exported = False

    def __init__(self, memory, places, *, uuid=bytes(16), stream_id=0, cpu=0):
        cdef RingState *s = &self._s
        if self._exported:
            raise RingBufferError("a ring is initialised once")
        if len(uuid) != 16:
            raise LayoutError("uuid", "16 bytes", len(uuid))
        _set_places(s, places, uuid, stream_id, cpu, -1)
        if s.header_size > HEADER_ROOM:
            raise LayoutError("packet header", f"at most {HEADER_ROOM} bytes", s.header_size)
        PyObject_GetBuffer(memory, &self._view, PyBUF_SIMPLE)
        self._exported = True
        s.base = <char *> self._view.buf
        if <uint64_t> self._view.len < <uint64_t> places["file_size"]:
            length = self._view.len
            self.release()
            raise LayoutError("stream memory", f"{places['file_size']} bytes", length)
        self.restart()

    def __dealloc__(self):
        if self._exported:
            PyBuffer_Release(&self._view)
            self._exported = False

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
    def data_offset(self):
        return self._s.data_offset

    @data_offset.setter
    def data_offset(self, uint64_t value):
        self._s.data_offset = value

    @property
    def packet_count(self):
        """Packets written since `restart`."""
        return self._s.packet_count

    @property
    def byte_count(self):
        """Their bytes."""
        return self._s.byte_count

    @property
    def last_end(self):
        """End of the last packet written, nanoseconds; 0: none was."""
        return self._last_end

    @property
    def error(self):
        return self._s.error

    def restart(self):
        """Forget the packets written so far: the next one is the first."""
        self._s.packet_count = self._s.byte_count = 0
        self._s.last_discarded = 0
        self._last_end = 0

    def positions(self):
        """Return ``(consumed, produced)``: bytes, words that wrap."""
        self._check()
        return rb_load(_word(&self._s, self._s.consumed)), rb_load(_word(&self._s, self._s.offset))

    def lost(self):
        """Return the events lost since creation, all causes together."""
        self._check()
        return self._lost()

    cdef uint64_t _lost(self):
        cdef RingState *s = &self._s
        return rb_load(_word(s, s.lost_full)) + rb_load(_word(s, s.lost_wrap)) + rb_load(_word(s, s.lost_big))

    def prefix(self, uint64_t position):
        """Return how many bytes of the sub-buffer at ``position`` are committed without a gap."""
        self._check()
        return _prefix(&self._s, position)

    def begins(self, uint64_t position):
        """Return the time at which a packet begins, nanoseconds; None if that cannot be told."""
        cdef Found found
        self._check()
        if _find(&self._s, position, False, &found) != _WHOLE or _gone(&self._s, position):
            return None
        if _prefix(&self._s, position) < self._s.header_size and not _committed(&self._s, position):
            return None
        return found.checked.begin

    def take(self, uint64_t position):
        """Return the packet at a position.

        Parameters
        ----------
        position : int
            Of the beginning of a sub-buffer.

        Returns
        -------
        bytes or None
            A copy: content and zeros up to a page. None if it cannot be had: `status` says
            why.
        """
        cdef Found found
        cdef bytes packet = None
        self._check()
        self.status = _look(&self._s, position, &found)
        if self.status == _WHOLE:
            packet = self._copy(&found)
            if _gone(&self._s, position):
                self.status = _OVERTAKEN
        return packet if self.status == _WHOLE else None

    def take_open(self, uint64_t position, uint64_t timestamp_end=0):
        """Return what is committed of the packet at a position, as a packet.

        Parameters
        ----------
        position : int
        timestamp_end : int
            The time at which it ends, nanoseconds: not before the last event in it. 0: now.

        Returns
        -------
        bytes or None
            A copy: header and records up to the first gap, zeros up to a page. None if not
            even the header is there: `status` says why.
        """
        cdef Found found
        cdef bytes packet = None
        self._check()
        self.status = self._look_open(position, timestamp_end, self._lost(), &found)
        if self.status == _WHOLE:
            packet = self._copy(&found)
            if _gone(&self._s, position):
                self.status = _OVERTAKEN
        return packet if self.status == _WHOLE else None

    cdef bytes _copy(self, Found *found):
        cdef RingState *s = &self._s
        cdef Checked *checked = &found.checked
        cdef bytes packet = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> checked.packet)
        cdef char *to = PyBytes_AS_STRING(packet)
        if checked.discarded < s.last_discarded:
            checked.discarded = s.last_discarded
        s.last_discarded = checked.discarded
        memcpy(found.head + s.h_discarded, &checked.discarded, 8)
        memcpy(to, found.head, s.header_size)
        memcpy(to + s.header_size, found.page + s.header_size, checked.content - s.header_size)
        memset(to + checked.content, 0, checked.packet - checked.content)
        return packet

    cdef int _look_open(self, uint64_t position, uint64_t end, uint64_t discarded, Found *found):
        """Find a packet that is not delivered, and finish its header in our copy."""
        cdef RingState *s = &self._s
        cdef uint64_t prefix = _prefix(s, position)
        cdef uint64_t bits
        cdef int status
        if prefix < s.header_size:
            return _OVERTAKEN if _gone(s, position) else _OPEN
        if not end:
            # Now, not before: whatever is in the prefix was recorded by now.
            end = rb_now()
        status = _find(s, position, False, found)
        if status != _WHOLE:
            return _OVERTAKEN if _gone(s, position) else status
        if prefix == s.size:
            # All of it is committed, its deliverer was killed: who filled it said how far.
            prefix = rb_load(_data_size(s, (found.page - s.base - s.data) >> s.size_order))
            if not s.header_size <= prefix <= s.size:
                return _DAMAGED
        found.checked.content = prefix
        found.checked.packet = (prefix + PAGE - 1) // PAGE * PAGE
        found.checked.end = end
        found.checked.discarded = discarded
        if found.checked.begin > end:
            return _DAMAGED
        memcpy(found.head + s.h_ts_end, &end, 8)
        bits = prefix * 8
        memcpy(found.head + s.h_content, &bits, 8)
        bits = found.checked.packet * 8
        memcpy(found.head + s.h_packet, &bits, 8)
        return _WHOLE

    def write(self, uint64_t first, uint64_t end, int data_fd, uint64_t batch=65536):
        """Write packets to a file, straight from the memory.

        Parameters
        ----------
        first, end : int
            Positions of sub-buffers; the one at ``end`` is not written.
        data_fd : int
            Written at `data_offset`, which moves on.
        batch : int
            Bytes in one system call, if that is more than a sub-buffer.

        Returns
        -------
        status : int
            ``OBSERVE_WHOLE`` when ``end`` is reached, else why not.
        position : int
            Of the packet that comes next. Those before it are in the file and good.
        """
        cdef RingState *s = &self._s
        cdef int status
        self._check()
        with nogil:
            status = self._write(&first, end, data_fd, batch)
        return status, first

    cdef int _write(self, uint64_t *position, uint64_t end, int data_fd, uint64_t limit) noexcept nogil:
        cdef RingState *s = &self._s
        cdef Found found[BATCH]
        cdef iovec iov[3 * BATCH]
        cdef uint64_t first, gathered, last_end, discarded
        cdef Checked *checked
        cdef int count, iovs, status = _WHOLE
        while status == _WHOLE and position[0] != end:
            first = position[0]
            gathered = 0
            count = iovs = 0
            last_end, discarded = self._last_end, s.last_discarded
            while count < BATCH and position[0] != end and (not count or gathered + s.size <= limit):
                status = _look(s, position[0], &found[count])
                checked = &found[count].checked
                if status == _WHOLE and checked.begin < last_end:
                    status = _DAMAGED
                if status != _WHOLE:
                    break
                last_end = checked.end
                if checked.discarded < discarded:
                    checked.discarded = discarded
                    memcpy(found[count].head + s.h_discarded, &discarded, 8)
                discarded = checked.discarded
                iovs += _pieces(s, &found[count], &iov[iovs])
                gathered += checked.packet
                position[0] += s.size
                count += 1
            if count:
                if _write_all(s, data_fd, iov, iovs, s.data_offset) < 0:
                    position[0] = first
                    return _FAILED
                # The oldest is overtaken first.
                if _gone(s, first):
                    position[0] = first
                    return _OVERTAKEN
                self._account(count, gathered, last_end, discarded)
        return status

    cdef void _account(self, int count, uint64_t gathered, uint64_t last_end, uint64_t discarded) noexcept nogil:
        self._s.data_offset += gathered
        self._s.packet_count += count
        self._s.byte_count += gathered
        self._s.last_discarded = discarded
        self._last_end = last_end

    def write_open(self, uint64_t position, int data_fd, uint64_t timestamp_end=0, discarded=None):
        """Write what is committed of the packet at a position.

        Parameters
        ----------
        position : int
        data_fd : int
        timestamp_end : int
            The time at which it ends, nanoseconds: not before the last event in it. 0: now.
        discarded : int, optional
            Events lost until its end; default: until now.

        Returns
        -------
        int
            An ``OBSERVE_*`` value.
        """
        cdef RingState *s = &self._s
        cdef Found found
        cdef int status
        self._check()
        status = self._look_open(position, timestamp_end, self._lost() if discarded is None else discarded, &found)
        if status == _WHOLE and found.checked.begin < self._last_end:
            status = _DAMAGED
        if status != _WHOLE:
            return status
        return self._put(&found, position, data_fd, True)

    def write_empty(self, uint64_t position, int data_fd, uint64_t timestamp_begin, uint64_t timestamp_end):
        """Write a packet without events in place of one that cannot be had.

        Who opened it was killed before its header was written: without a packet its number
        would be missing. Result as that of `write_open`.
        """
        cdef RingState *s = &self._s
        cdef Found found
        cdef Checked *checked = &found.checked
        cdef uint32_t magic = DATA_MAGIC
        cdef uint64_t instance = s.cpu
        self._check()
        memset(found.head, 0, HEADER_ROOM)
        found.page = found.head
        checked.begin, checked.end = timestamp_begin, timestamp_end
        checked.content, checked.packet = s.header_size, PAGE
        checked.discarded = s.last_discarded
        checked.sequence = position >> s.size_order
        memcpy(found.head + s.h_magic, &magic, 4)
        memcpy(found.head + s.h_uuid, s.uuid, 16)
        memcpy(found.head + s.h_stream_id, &s.stream_id, 4)
        memcpy(found.head + s.h_instance, &instance, 8)
        memcpy(found.head + s.h_ts_begin, &checked.begin, 8)
        memcpy(found.head + s.h_ts_end, &checked.end, 8)
        memcpy(found.head + s.h_seq, &checked.sequence, 8)
        memcpy(found.head + s.h_cpu, &s.cpu, 4)
        cdef uint64_t bits = checked.content * 8
        memcpy(found.head + s.h_content, &bits, 8)
        bits = checked.packet * 8
        memcpy(found.head + s.h_packet, &bits, 8)
        return self._put(&found, position, data_fd, False)

    cdef int _put(self, Found *found, uint64_t position, int data_fd, bint shared):
        """Write one packet; ``shared``: from memory that writers may be in."""
        cdef RingState *s = &self._s
        cdef Checked *checked = &found.checked
        cdef iovec iov[3]
        if checked.discarded < s.last_discarded:
            checked.discarded = s.last_discarded
        memcpy(found.head + s.h_discarded, &checked.discarded, 8)
        if _write_all(s, data_fd, iov, _pieces(s, found, iov), s.data_offset) < 0:
            return _FAILED
        if shared and _gone(s, position):
            return _OVERTAKEN
        self._account(1, checked.packet, checked.end, checked.discarded)
        return _WHOLE


cdef int _pieces(RingState *r, Found *found, iovec *iov) noexcept nogil:
    """Describe a packet for a write: our header, its content, zeros; return how many pieces."""
    cdef Checked *checked = &found.checked
    cdef int count = 1
    iov[0].iov_base = found.head
    iov[0].iov_len = r.header_size
    if checked.content > r.header_size:
        iov[count].iov_base = found.page + r.header_size
        iov[count].iov_len = checked.content - r.header_size
        count += 1
    if checked.packet > checked.content:
        iov[count].iov_base = _ZEROS
        iov[count].iov_len = checked.packet - checked.content
        count += 1
    return count
