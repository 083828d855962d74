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

from cpython.buffer cimport PyObject_GetBuffer, PyBuffer_Release, PyBUF_WRITABLE
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ustconsumer.errors import LayoutError, RingBufferError

__all__ = [
    "DRAIN_EMPTY",
    "DRAIN_ERRNO",
    "DRAIN_HELD",
    "DRAIN_LIE",
    "DRAIN_MORE",
    "Ring",
    "RingSet",
]

cdef extern from *:
    """
    #include <endian.h>
    #include <errno.h>
    #include <stdint.h>
    #include <sys/types.h>
    #include <sys/uio.h>
    #include <time.h>
    #include <unistd.h>
    static inline uint64_t rb_load(const void *p) { return __atomic_load_n((const uint64_t *) p, __ATOMIC_ACQUIRE); }
    static inline void rb_store(void *p, uint64_t v) { __atomic_store_n((uint64_t *) p, v, __ATOMIC_RELEASE); }
    static inline uint32_t rb_load32(const void *p) { return __atomic_load_n((const uint32_t *) p, __ATOMIC_ACQUIRE); }
    static inline void rb_store32(void *p, uint32_t v) { __atomic_store_n((uint32_t *) p, v, __ATOMIC_RELEASE); }
    static inline uint64_t rb_peek(const void *p) { return __atomic_load_n((const uint64_t *) p, __ATOMIC_RELAXED); }
    static inline void rb_put(void *p, uint64_t v) { __atomic_store_n((uint64_t *) p, v, __ATOMIC_RELAXED); }
    static inline int rb_cas(void *p, uint64_t old, uint64_t new_) {
        return __atomic_compare_exchange_n((uint64_t *) p, &old, new_, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    static inline uint64_t rb_add(void *p, uint64_t v) { return __atomic_fetch_add((uint64_t *) p, v, __ATOMIC_SEQ_CST); }
    static inline void rb_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
    static inline uint64_t rb_now(void) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000000ull + (uint64_t) ts.tv_nsec;
    }
    static inline void rb_kick(int fd) {
        /* Full pipe: the reader has a wake-up waiting already. */
        char zero = 0;
        if (fd >= 0 && write(fd, &zero, 1) < 0) { }
    }
    #define RB_IOV 64
    """
    uint64_t rb_load(const void *) nogil
    void rb_store(void *, uint64_t) nogil
    uint32_t rb_load32(const void *) nogil
    void rb_store32(void *, uint32_t) nogil
    uint64_t rb_peek(const void *) nogil
    void rb_put(void *, uint64_t) nogil
    bint rb_cas(void *, uint64_t, uint64_t) nogil
    uint64_t rb_add(void *, uint64_t) nogil
    void rb_fence() nogil
    uint64_t rb_now() nogil
    void rb_kick(int) nogil
    uint64_t htobe64(uint64_t) nogil
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t pwritev(int, const iovec *, int, int64_t) nogil
    ssize_t pwrite(int, const void *, size_t, int64_t) nogil
    int RB_IOV

# What `Ring.drain` ended on.
DRAIN_EMPTY = 0   # nothing more to read now
DRAIN_MORE = 1    # the limit was reached, there may be more
DRAIN_HELD = 2    # the next sub-buffer is full but not yet committed
DRAIN_ERRNO = 3   # a write failed: ``error`` is the errno; nothing was given back
DRAIN_LIE = 4     # the memory contradicts itself: ``lie`` says what

cdef enum:
    _EMPTY = 0
    _MORE = 1
    _HELD = 2
    _ERRNO = 3
    _LIE = 4

cdef enum:
    LIE_NONE = 0
    LIE_ID = 1
    LIE_DATA_SIZE = 2
    LIE_HEADER = 3
    LIE_SEQUENCE = 4
    LIE_POSITION = 5

_LIES = {
    0: "",
    LIE_ID: "a sub-buffer id selects no page",
    LIE_DATA_SIZE: "a packet's size is not within its sub-buffer",
    LIE_HEADER: "a packet header has another magic, stream or size than its buffer",
    LIE_SEQUENCE: "a packet's sequence number is not that of its position",
    LIE_POSITION: "the consumed position moved by itself",
}

# Index entry: nine big-endian u64; the ring buffer's packet context has the first ones
# in the same order, but the entry is built field by field from the row offsets.
cdef enum:
    INDEX_WORDS = 9
    INDEX_ENTRY = 72
    PAGE = 4096

cdef uint64_t NOREF = 1ull << 32
cdef uint64_t PAGE_BITS = 0xFFFFFFFFull
cdef int TURN_SHIFT = 33
cdef uint32_t DATA_MAGIC = 0xC1FC1FC1

cdef struct Places:
    uint64_t offset, consumed, last_tsc, rsb_id, active_readers
    uint64_t lost_full, lost_wrap, lost_big
    uint64_t get_subbuf_consumed, prod_snapshot, cons_snapshot, get_subbuf
    uint64_t hot, hot_stride, hot_cc, hot_seq, cold, cold_stride, cc_sb
    uint64_t ts_end, wsb, cnt, pages, page_stride, page_data_size, data
    uint64_t header_size
    uint64_t h_magic, h_uuid, h_stream_id, h_instance, h_ts_begin, h_ts_end
    uint64_t h_content, h_packet, h_seq, h_discarded, h_cpu


cdef int _log2(uint64_t value) nogil:
    cdef int order = 0
    while value > 1:
        value >>= 1
        order += 1
    return order


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
    cdef char *_base
    cdef Places _p
    cdef uint64_t _size, _count, _total, _mask, _pages
    cdef int _size_order, _count_order, _total_order
    cdef bint _overwrite, _by_writer
    cdef uint8_t _uuid[16]
    cdef uint32_t _stream_id
    cdef uint32_t _cpu
    cdef int _wake_fd
    cdef int _lie
    cdef readonly uint64_t packet_count, byte_count
    #: bytes of one sub-buffer
    cdef readonly uint64_t subbuf_size
    cdef public uint64_t data_offset, index_offset, last_discarded
    cdef readonly int error

    def __cinit__(self):
        self._exported = False
        self._lie = LIE_NONE

    def __init__(self, memory, places, *, uuid=bytes(16), stream_id=0, cpu=0, wake_fd=-1):
        if self._exported:
            raise RingBufferError("a ring is initialised once")
        if len(uuid) != 16:
            raise LayoutError("uuid", "16 bytes", len(uuid))
        self._p = Places(
            offset=places["offset"], consumed=places["consumed"], last_tsc=places["last_tsc"],
            rsb_id=places["rsb_id"], active_readers=places["active_readers"],
            lost_full=places["lost_full"], lost_wrap=places["lost_wrap"],
            lost_big=places["lost_big"], get_subbuf_consumed=places["get_subbuf_consumed"],
            prod_snapshot=places["prod_snapshot"], cons_snapshot=places["cons_snapshot"],
            get_subbuf=places["get_subbuf"], hot=places["hot"], hot_stride=places["hot_stride"],
            hot_cc=places["hot_cc"], hot_seq=places["hot_seq"], cold=places["cold"],
            cold_stride=places["cold_stride"], cc_sb=places["cc_sb"], ts_end=places["ts_end"],
            wsb=places["wsb"], cnt=places["cnt"], pages=places["pages"],
            page_stride=places["page_stride"], page_data_size=places["page_data_size"],
            data=places["data"], header_size=places["header_size"], h_magic=places["h_magic"],
            h_uuid=places["h_uuid"], h_stream_id=places["h_stream_id"],
            h_instance=places["h_instance"], h_ts_begin=places["h_ts_begin"],
            h_ts_end=places["h_ts_end"], h_content=places["h_content"],
            h_packet=places["h_packet"], h_seq=places["h_seq"],
            h_discarded=places["h_discarded"], h_cpu=places["h_cpu"],
        )
        self._size = self.subbuf_size = places["subbuf_size"]
        self._count = places["num_subbuf"]
        self._overwrite = bool(places["overwrite"])
        self._by_writer = bool(places["by_writer"])
        self._total = self._size * self._count
        self._size_order = _log2(self._size)
        self._count_order = _log2(self._count)
        self._total_order = self._size_order + self._count_order
        self._mask = (<uint64_t> 0xFFFFFFFFFFFFFFFF) >> self._count_order
        self._pages = self._count + (1 if self._overwrite else 0)
        memcpy(self._uuid, <const char *> <bytes> uuid, 16)
        self._stream_id = stream_id
        self._cpu = cpu
        self._wake_fd = wake_fd
        PyObject_GetBuffer(memory, &self._view, PyBUF_WRITABLE)
        self._exported = True
        self._base = <char *> self._view.buf
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
            self._base = NULL
            PyBuffer_Release(&self._view)

    cdef int _check(self) except -1:
        if not self._exported:
            raise RingBufferError("the ring's memory was released")
        return 0

    @property
    def lie(self):
        """What the memory contradicted itself in, empty if it did not."""
        return _LIES[self._lie]

    # -- arithmetic (positions are unsigned and wrap) --------------------------

    cdef inline uint64_t _trunc(self, uint64_t x) noexcept nogil:
        return x & ~(self._size - 1)

    cdef inline uint64_t _align(self, uint64_t x) noexcept nogil:
        return (x + self._size) & ~(self._size - 1)

    cdef inline uint64_t _index(self, uint64_t x) noexcept nogil:
        return (x & (self._total - 1)) >> self._size_order

    cdef inline uint64_t _turn_units(self, uint64_t x) noexcept nogil:
        return (x & ~(self._total - 1)) >> self._count_order

    cdef inline uint64_t _turn_tag(self, uint64_t x) noexcept nogil:
        return (x >> self._total_order) << TURN_SHIFT

    cdef inline char *_word(self, uint64_t at) noexcept nogil:
        return self._base + at

    cdef inline char *_cc(self, uint64_t index) noexcept nogil:
        return self._base + self._p.hot + index * self._p.hot_stride + self._p.hot_cc

    cdef inline char *_seq(self, uint64_t index) noexcept nogil:
        return self._base + self._p.hot + index * self._p.hot_stride + self._p.hot_seq

    cdef inline char *_cc_sb(self, uint64_t index) noexcept nogil:
        return self._base + self._p.cold + index * self._p.cold_stride + self._p.cc_sb

    cdef inline char *_wsb(self, uint64_t index) noexcept nogil:
        return self._base + self._p.wsb + 8 * index

    cdef inline bint _free_to_enter(self, uint64_t x) noexcept nogil:
        return self._turn_units(x) == (rb_load(self._cc_sb(self._index(x))) & self._mask)

    cdef inline bint _committed(self, uint64_t x) noexcept nogil:
        return ((rb_load(self._cc_sb(self._index(x))) - self._size) & self._mask) == self._turn_units(x)

    cdef inline uint64_t _page_of(self, uint64_t id) noexcept nogil:
        return id & PAGE_BITS if self._overwrite else id

    cdef inline char *_page(self, uint64_t page) noexcept nogil:
        """Address of a page's bytes; NULL when no such page exists."""
        if page >= self._pages:
            self._lie = LIE_ID
            return NULL
        return self._base + self._p.data + page * self._size

    cdef inline char *_data_size(self, uint64_t page) noexcept nogil:
        return self._base + self._p.pages + page * self._p.page_stride + self._p.page_data_size

    # -- reading -----------------------------------------------------------------

    def open(self):
        """Announce a reader: writers send wake-ups from now on."""
        self._check()
        rb_store(self._word(self._p.active_readers), 1)
        rb_fence()

    def close(self):
        """Withdraw the reader; the memory stays mapped."""
        self._check()
        rb_fence()
        rb_store(self._word(self._p.active_readers), 0)

    def positions(self):
        """Return ``(consumed, produced)``; the two are not sampled at one instant."""
        self._check()
        return rb_load(self._word(self._p.consumed)), rb_load(self._word(self._p.offset))

    cdef bint _snapshot(self) noexcept nogil:
        cdef uint64_t consumed = rb_load(self._word(self._p.consumed))
        cdef uint64_t produced = rb_load(self._word(self._p.offset))
        if self._trunc(produced) == self._trunc(consumed):
            return False
        rb_put(self._word(self._p.cons_snapshot), consumed)
        rb_put(self._word(self._p.prod_snapshot), self._trunc(produced))
        return True

    def snapshot(self):
        """Sample the consumed and produced positions; False when both are in one sub-buffer."""
        self._check()
        return self._snapshot()

    cdef bint _exchange(self, uint64_t position) noexcept nogil:
        """Take the sub-buffer at a position for the reader, or give the reader's back."""
        cdef char *entry = self._wsb(self._index(position))
        cdef char *reader = self._word(self._p.rsb_id)
        cdef uint64_t old = rb_load(entry)
        cdef uint64_t tag = self._turn_tag(position)
        cdef uint64_t own
        if not self._overwrite:
            rb_put(reader, old)
            return True
        if not old & NOREF or (old >> TURN_SHIFT) << TURN_SHIFT != tag:
            return False
        own = (rb_peek(reader) & PAGE_BITS) | NOREF | tag
        rb_put(reader, own)
        # Writers clear noref by CAS on the same word: of the two, one wins.
        if not rb_cas(entry, old, own):
            return False
        rb_put(reader, old)
        return True

    cdef bint _get(self, uint64_t position) noexcept nogil:
        cdef uint64_t consumed = rb_load(self._word(self._p.consumed))
        cdef bint committed = self._committed(position)
        # cc_sb before the write offset: pairs with the writer's barrier before delivery.
        cdef uint64_t produced = rb_load(self._word(self._p.offset))
        if <int64_t> (self._trunc(position) - self._trunc(consumed)) < 0:
            return False
        if not committed or self._trunc(produced) == self._trunc(position):
            return False
        if not self._exchange(position):
            return False
        if self._overwrite:
            rb_put(self._word(self._p.rsb_id), rb_peek(self._word(self._p.rsb_id)) & ~NOREF)
        rb_put(self._word(self._p.get_subbuf_consumed), position)
        self._base[self._p.get_subbuf] |= 1
        return True

    cdef void _put(self) noexcept nogil:
        self._base[self._p.get_subbuf] &= ~1
        if self._overwrite:
            rb_put(self._word(self._p.rsb_id), rb_peek(self._word(self._p.rsb_id)) | NOREF)
        # Failure means a writer overtook: the page held becomes the reader's spare.
        self._exchange(rb_peek(self._word(self._p.get_subbuf_consumed)))

    cdef void _move(self, uint64_t position) noexcept nogil:
        cdef char *at = self._word(self._p.consumed)
        cdef uint64_t consumed = rb_load(at)
        while <int64_t> (consumed - position) < 0:
            # The full barrier of the CAS orders our reads before the writers' reuse.
            if rb_cas(at, consumed, position):
                return
            consumed = rb_load(at)

    def held(self):
        """Return whether a reader holds a sub-buffer (also one that died holding it)."""
        self._check()
        return bool(self._base[self._p.get_subbuf] & 1)

    def get(self, uint64_t position):
        """Take the sub-buffer at ``position``; False when it cannot be read now.

        Raises
        ------
        RingBufferError
            A sub-buffer is held already.
        """
        self._check()
        if self._base[self._p.get_subbuf] & 1:
            raise RingBufferError("a sub-buffer is held already: put it first")
        return self._get(position)

    def put(self):
        """Give the held sub-buffer back; does not move ``consumed``.

        Raises
        ------
        RingBufferError
            None is held.
        """
        self._check()
        if not self._base[self._p.get_subbuf] & 1:
            raise RingBufferError("no sub-buffer is held")
        self._put()

    def get_next(self):
        """Take the sub-buffer at the consumed position; False when there is none to read."""
        self._check()
        if self._base[self._p.get_subbuf] & 1:
            raise RingBufferError("a sub-buffer is held already: put it first")
        return self._snapshot() and self._get(rb_peek(self._word(self._p.cons_snapshot)))

    def put_next(self):
        """Give the held sub-buffer back and move ``consumed`` past it."""
        self.put()
        self._move(self._align(rb_peek(self._word(self._p.cons_snapshot))))

    def move_consumer(self, uint64_t position):
        """Move ``consumed`` forward to ``position``; never backward."""
        self._check()
        self._move(position)

    def clear(self):
        """Forget everything delivered; sound only while no writer writes."""
        self._check()
        self._switch(False, rb_now(), False)
        self._move(self._trunc(rb_load(self._word(self._p.offset))))

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
        if not self._base[self._p.get_subbuf] & 1:
            raise RingBufferError("no sub-buffer is held")
        page = self._page_of(rb_peek(self._word(self._p.rsb_id)))
        if self._page(page) == NULL:
            raise RingBufferError(_LIES[LIE_ID])
        size = rb_peek(self._data_size(page))
        if size < self._p.header_size or size > self._size:
            self._lie = LIE_DATA_SIZE
            raise RingBufferError(f"{_LIES[LIE_DATA_SIZE]}: {size} bytes")
        return page, size, rb_peek(self._word(self._p.get_subbuf_consumed))

    cdef bint _readable(self) noexcept nogil:
        cdef uint64_t consumed = rb_load(self._word(self._p.consumed))
        return (
            self._committed(consumed)
            and self._trunc(rb_load(self._word(self._p.offset))) != self._trunc(consumed)
        )

    def readable(self):
        """Return whether the sub-buffer at ``consumed`` can be read now."""
        self._check()
        return self._readable()

    # -- switching -----------------------------------------------------------------

    cdef uint64_t _lost(self) noexcept nogil:
        return (
            rb_load(self._word(self._p.lost_full))
            + rb_load(self._word(self._p.lost_wrap))
            + rb_load(self._word(self._p.lost_big))
        )

    cdef void _clear_noref(self, uint64_t position) noexcept nogil:
        cdef char *entry = self._wsb(self._index(position))
        cdef uint64_t id
        if not self._overwrite:
            return
        id = rb_load(entry)
        while id & NOREF and not rb_cas(entry, id, id & ~NOREF):
            id = rb_load(entry)

    cdef void _push_reader(self, uint64_t position) noexcept nogil:
        cdef char *at = self._word(self._p.consumed)
        cdef uint64_t consumed = rb_load(at)
        while self._trunc(position) - self._trunc(consumed) >= self._total:
            rb_cas(at, consumed, self._align(consumed))
            consumed = rb_load(at)

    cdef void _write_header(self, char *page, uint64_t position, uint64_t now) noexcept nogil:
        """Packet header at the opening of a sub-buffer; sizes are unknown until the end."""
        cdef uint64_t index = self._index(position)
        (<uint32_t *> (page + self._p.h_magic))[0] = DATA_MAGIC
        memcpy(page + self._p.h_uuid, self._uuid, 16)
        memcpy(page + self._p.h_stream_id, &self._stream_id, 4)
        cdef uint64_t word = self._cpu
        memcpy(page + self._p.h_instance, &word, 8)
        memcpy(page + self._p.h_ts_begin, &now, 8)
        memset(page + self._p.h_ts_end, 0, 8)
        memset(page + self._p.h_content, 0xFF, 8)
        memset(page + self._p.h_packet, 0xFF, 8)
        word = self._count * rb_peek(self._word(self._p.cnt + 8 * index)) + index
        memcpy(page + self._p.h_seq, &word, 8)
        memset(page + self._p.h_discarded, 0, 8)
        memcpy(page + self._p.h_cpu, &self._cpu, 4)

    cdef void _deliver(self, uint64_t index, uint64_t position, uint64_t cc, uint64_t discarded) noexcept nogil:
        cdef char *cc_sb = self._cc_sb(index)
        cdef char *page
        cdef uint64_t number, size, word
        # Two committers may both see the full count: the CAS elects one.
        if not rb_cas(cc_sb, cc - self._size, cc - self._size + 1):
            return
        number = self._page_of(rb_peek(self._wsb(index)))
        page = self._page(number)
        if page == NULL:
            return
        size = rb_peek(self._data_size(number))
        word = rb_peek(self._word(self._p.ts_end + 8 * index))
        memcpy(page + self._p.h_ts_end, &word, 8)
        word = size * 8
        memcpy(page + self._p.h_content, &word, 8)
        word = (size + PAGE - 1) // PAGE * PAGE * 8
        memcpy(page + self._p.h_packet, &word, 8)
        memcpy(page + self._p.h_discarded, &discarded, 8)
        word = rb_peek(self._word(self._p.cnt + 8 * index)) + 1
        rb_put(self._word(self._p.cnt + 8 * index), word)
        rb_fence()
        if self._overwrite:
            rb_put(self._wsb(index), number | NOREF | self._turn_tag(position))
            rb_fence()
        rb_store(cc_sb, cc)
        rb_store(self._seq(index), cc)
        if (
            self._by_writer
            and self._wake_fd >= 0
            and rb_load(self._word(self._p.active_readers))
            and self._readable()
        ):
            rb_kick(self._wake_fd)

    cdef void _commit(self, uint64_t last, uint64_t end, uint64_t length, uint64_t discarded) noexcept nogil:
        """Add ``length`` to the commit count of the sub-buffer of ``last``; deliver when full."""
        cdef uint64_t index = self._index(last)
        cdef uint64_t cc, seq
        rb_fence()
        rb_add(self._cc(index), length)
        cc = rb_load(self._cc(index))
        if self._turn_units(last) == ((cc - self._size) & self._mask):
            self._deliver(index, last, cc, discarded)
        if ((end - cc) & (self._size - 1)) == 0:
            seq = rb_load(self._seq(index))
            if <int64_t> (seq - cc) < 0:
                rb_store(self._seq(index), cc)

    cdef bint _switch(self, bint final, uint64_t given, bint use_given) noexcept nogil:
        cdef uint64_t old, now, discarded, last, number
        cdef char *page
        cdef bint start_old
        while True:
            # Position first, clock second: times do not decrease along positions.
            old = rb_load(self._word(self._p.offset))
            now = given if use_given else rb_now()
            start_old = False
            if (old & (self._size - 1)) == 0:
                if not final:
                    return False
                if not self._free_to_enter(old):
                    return False
                if not self._overwrite and (
                    self._trunc(old) - self._trunc(rb_load(self._word(self._p.consumed))) >= self._total
                ):
                    return False
                start_old = True
            discarded = self._lost()
            if rb_cas(self._word(self._p.offset), old, self._align(old)):
                break
        rb_put(self._word(self._p.last_tsc), now)
        self._push_reader(old)
        self._clear_noref(old)
        number = self._page_of(rb_load(self._wsb(self._index(old))))
        page = self._page(number)
        if page == NULL:
            return False
        if start_old:
            self._write_header(page, old, now)
            old += self._p.header_size
            self._commit(old - 1, old, self._p.header_size, discarded)
        last = old - 1
        rb_put(self._data_size(number), (last & (self._size - 1)) + 1)
        rb_put(self._word(self._p.ts_end + 8 * self._index(last)), now)
        self._commit(last, self._align(last), self._align(last) - old, discarded)
        return True

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
            closed = self._switch(final, given, use_given)
        return closed

    # -- packets -------------------------------------------------------------------

    cdef int _mend(self, char *page, uint64_t number, uint64_t position, uint64_t *packet_size) noexcept nogil:
        """Check the packet of a held sub-buffer and mend what its writers left.

        Bytes after the content are old events: zeroed. ``events_discarded`` may be 0
        after losses (the last committer's view): made non-decreasing.
        """
        cdef uint64_t size = rb_peek(self._data_size(number))
        cdef uint64_t rounded, content, packet, sequence, discarded
        cdef uint32_t magic, stream_id
        if size < self._p.header_size or size > self._size:
            return LIE_DATA_SIZE
        rounded = (size + PAGE - 1) // PAGE * PAGE
        memcpy(&magic, page + self._p.h_magic, 4)
        memcpy(&stream_id, page + self._p.h_stream_id, 4)
        memcpy(&content, page + self._p.h_content, 8)
        memcpy(&packet, page + self._p.h_packet, 8)
        memcpy(&sequence, page + self._p.h_seq, 8)
        if magic != DATA_MAGIC or stream_id != self._stream_id or content != size * 8 or packet != rounded * 8:
            return LIE_HEADER
        if sequence != position >> self._size_order:
            return LIE_SEQUENCE
        memcpy(&discarded, page + self._p.h_discarded, 8)
        if discarded < self.last_discarded:
            discarded = self.last_discarded
            memcpy(page + self._p.h_discarded, &discarded, 8)
        self.last_discarded = discarded
        if rounded > size:
            memset(page + size, 0, rounded - size)
        packet_size[0] = rounded
        return LIE_NONE

    def mend_held(self):
        """Check and mend the packet of the held sub-buffer.

        Returns
        -------
        page : int
        packet_size : int
            Bytes to hand on: content rounded up to a page.

        Raises
        ------
        RingBufferError
            The packet contradicts its buffer.
        """
        cdef uint64_t packet_size = 0
        page, _, position = self.current()
        self._lie = self._mend(self._page(page), page, position, &packet_size)
        if self._lie:
            raise RingBufferError(_LIES[self._lie])
        return page, packet_size

    cdef void _index_entry(self, char *page, uint64_t file_offset, uint64_t packet_size, uint64_t *entry) noexcept nogil:
        cdef uint64_t word
        entry[0] = htobe64(file_offset)
        entry[1] = htobe64(packet_size * 8)
        memcpy(&word, page + self._p.h_content, 8)
        entry[2] = htobe64(word)
        memcpy(&word, page + self._p.h_ts_begin, 8)
        entry[3] = htobe64(word)
        memcpy(&word, page + self._p.h_ts_end, 8)
        entry[4] = htobe64(word)
        memcpy(&word, page + self._p.h_discarded, 8)
        entry[5] = htobe64(word)
        entry[6] = htobe64(self._stream_id)
        entry[7] = htobe64(self._cpu)
        memcpy(&word, page + self._p.h_seq, 8)
        entry[8] = htobe64(word)

    cdef int _write_all(self, int data_fd, iovec *iov, int count, uint64_t offset) noexcept nogil:
        cdef ssize_t done
        cdef int first = 0
        while first < count:
            done = pwritev(data_fd, iov + first, count - first, <int64_t> offset)
            if done < 0:
                if errno == EINTR:
                    continue
                self.error = errno
                return -1
            offset += done
            while first < count and <size_t> done >= iov[first].iov_len:
                done -= iov[first].iov_len
                first += 1
            if first < count and done:
                iov[first].iov_base = <char *> iov[first].iov_base + done
                iov[first].iov_len -= done
        return 0

    cdef int _write_index(self, int index_fd, uint64_t *entries, int count) noexcept nogil:
        cdef ssize_t done
        cdef size_t written = 0
        cdef size_t length = <size_t> count * INDEX_ENTRY
        if index_fd < 0:
            return 0
        while written < length:
            done = pwrite(index_fd, (<char *> entries) + written, length - written, <int64_t> (self.index_offset + written))
            if done < 0:
                if errno == EINTR:
                    continue
                self.error = errno
                return -1
            written += done
        self.index_offset += length
        return 0

    cdef int _drain_discard(self, int data_fd, int index_fd, uint64_t limit, uint64_t batch) noexcept nogil:
        """Read-write-release in batches: several sub-buffers a system call."""
        cdef iovec iov[64]
        cdef uint64_t entries[64 * INDEX_WORDS]
        cdef uint64_t start, position, produced, packet_size, gathered, moved = 0
        cdef int iovs, count
        cdef char *page
        cdef int status
        while True:
            if moved >= limit:
                return _MORE
            start = rb_load(self._word(self._p.consumed))
            position = start
            produced = self._trunc(rb_load(self._word(self._p.offset)))
            iovs = count = 0
            gathered = 0
            status = _EMPTY
            while count < RB_IOV and (count == 0 or gathered + self._size <= batch):
                if position == produced:
                    break
                if not self._committed(position):
                    status = _HELD
                    break
                # A reader that waits for room sees at most `total` bytes ahead.
                if rb_load(self._wsb(self._index(position))) != self._index(position):
                    self._lie = LIE_ID
                    return _LIE
                page = self._base + self._p.data + self._index(position) * self._size
                self._lie = self._mend(page, self._index(position), position, &packet_size)
                if self._lie:
                    return _LIE
                if iovs and <char *> iov[iovs - 1].iov_base + iov[iovs - 1].iov_len == page:
                    iov[iovs - 1].iov_len += packet_size
                else:
                    iov[iovs].iov_base = page
                    iov[iovs].iov_len = packet_size
                    iovs += 1
                self._index_entry(page, self.data_offset + gathered, packet_size, &entries[count * INDEX_WORDS])
                gathered += packet_size
                count += 1
                position += self._size
            if count == 0:
                return status
            # Data, index, position: a successor finds on disk at least what was released.
            if self._write_all(data_fd, iov, iovs, self.data_offset) < 0:
                return _ERRNO
            if self._write_index(index_fd, entries, count) < 0:
                return _ERRNO
            self.data_offset += gathered
            # The CAS is a full barrier: our reads come before the writers' reuse.
            if not rb_cas(self._word(self._p.consumed), start, position):
                self._lie = LIE_POSITION
                return _LIE
            self.packet_count += count
            self.byte_count += gathered
            moved += gathered

    cdef int _drain_overwrite(self, int data_fd, int index_fd, uint64_t limit) noexcept nogil:
        """One sub-buffer at a time: there is one spare page to take it with."""
        cdef iovec iov
        cdef uint64_t entry[INDEX_WORDS]
        cdef uint64_t position, number, packet_size, moved = 0
        cdef char *page
        while True:
            if moved >= limit:
                return _MORE
            if not self._snapshot():
                return _EMPTY
            position = rb_peek(self._word(self._p.cons_snapshot))
            if not self._get(position):
                # Overtaken (consumed moved on) or not committed: only the first is worth a retry.
                if rb_load(self._word(self._p.consumed)) == position:
                    return _HELD
                continue
            number = self._page_of(rb_peek(self._word(self._p.rsb_id)))
            page = self._page(number)
            if page == NULL:
                return _LIE
            self._lie = self._mend(page, number, position, &packet_size)
            if self._lie:
                self._put()
                return _LIE
            iov.iov_base = page
            iov.iov_len = packet_size
            self._index_entry(page, self.data_offset, packet_size, entry)
            if self._write_all(data_fd, &iov, 1, self.data_offset) < 0 or self._write_index(index_fd, entry, 1) < 0:
                self._put()
                return _ERRNO
            self.data_offset += packet_size
            self._put()
            self._move(self._align(position))
            self.packet_count += 1
            self.byte_count += packet_size
            moved += packet_size

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
            nothing of the failed batch is released, calling again repeats it) or
            ``DRAIN_LIE`` (see ``lie``; the stream should be closed).

        Notes
        -----
        Runs without the GIL.
        """
        cdef int status
        self._check()
        if self._base[self._p.get_subbuf] & 1:
            raise RingBufferError("a sub-buffer is held already: put it first")
        with nogil:
            if self._overwrite:
                status = self._drain_overwrite(data_fd, index_fd, max_bytes)
            else:
                status = self._drain_discard(data_fd, index_fd, max_bytes, batch)
        return status


cdef class RingSet:
    """Rings that one loop watches; scanning them costs no Python per ring."""

    cdef list _rings

    def __cinit__(self):
        self._rings = []

    def add(self, Ring ring not None):
        """Watch a ring."""
        self._rings.append(ring)

    def remove(self, Ring ring not None):
        """Stop watching a ring."""
        self._rings.remove(ring)

    def __len__(self):
        return len(self._rings)

    def scan(self):
        """Return the rings whose next sub-buffer can be read now, in order of addition."""
        cdef Ring ring
        cdef list ready = []
        for item in self._rings:
            ring = <Ring> item
            if ring._exported and ring._readable():
                ready.append(ring)
        return ready

    def set_active(self, uint64_t value):
        """Store ``active_readers`` in every ring, then a full barrier.

        With 0 writers skip the wake-up; after storing 1 the caller scans again before
        it sleeps, so a packet delivered in between is not missed.
        """
        cdef Ring ring
        for item in self._rings:
            ring = <Ring> item
            if ring._exported:
                rb_store(ring._word(ring._p.active_readers), value)
        rb_fence()

    def lost(self):
        """Return the events lost so far, all rings together."""
        cdef Ring ring
        cdef uint64_t total = 0
        for item in self._rings:
            ring = <Ring> item
            if ring._exported:
                total += ring._lost()
        return total
