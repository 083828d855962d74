# SPDX-License-Identifier: MIT
# cython: language_level=3
"""State of one ring, the atomic accesses to it, the arithmetic of its positions.

Included by ``ring.pyx`` and ``emit.pyx``. Positions are unsigned words that wrap. Loads acquire, stores
release, read-modify-writes are full barriers; other pairings are named where they stand.
"""

cdef extern from *:
    """
    #include <endian.h>
    #include <errno.h>
    #include <signal.h>
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
    /* One byte, never reordered before earlier stores: what a successor of a killed reader
       finds is a state between two statements. */
    static inline void rb_mark(void *p, uint8_t v) { __atomic_store_n((uint8_t *) p, v, __ATOMIC_RELEASE); }
    static inline uint64_t rb_add(void *p, uint64_t v) { return __atomic_fetch_add((uint64_t *) p, v, __ATOMIC_SEQ_CST); }
    static inline void rb_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
    static inline void rb_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
    static inline uint64_t rb_now(void) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000000ull + (uint64_t) ts.tv_nsec;
    }
    static inline void rb_kick(int fd) {
        /* Full pipe: the reader has a wake-up waiting already. No reader: the signal would
           end a program that has not asked to be traced. */
        struct timespec none = { 0, 0 };
        sigset_t broken, before;
        char zero = 0;
        if (fd < 0)
            return;
        sigemptyset(&broken);
        sigaddset(&broken, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &broken, &before);
        if (write(fd, &zero, 1) < 0 && errno == EPIPE && !sigismember(&before, SIGPIPE))
            while (sigtimedwait(&broken, (siginfo_t *) 0, &none) < 0 && errno == EINTR) { }
        pthread_sigmask(SIG_SETMASK, &before, (sigset_t *) 0);
    }
    static inline void rb_pause(uint64_t ns) {
        struct timespec ts = { (time_t) (ns / 1000000000ull), (long) (ns % 1000000000ull) };
        nanosleep(&ts, (struct timespec *) 0);
    }
    #define RB_IOV 64
    """
    void rb_mark(void *, uint8_t) nogil
    uint64_t rb_load(const void *) nogil
    void rb_store(void *, uint64_t) nogil
    uint32_t rb_load32(const void *) nogil
    void rb_store32(void *, uint32_t) nogil
    uint64_t rb_peek(const void *) nogil
    void rb_put(void *, uint64_t) nogil
    bint rb_cas(void *, uint64_t, uint64_t) nogil
    uint64_t rb_add(void *, uint64_t) nogil
    void rb_acquire() nogil
    void rb_fence() nogil
    uint64_t rb_now() nogil
    void rb_kick(int) nogil
    void rb_pause(uint64_t) nogil
    uint64_t htobe64(uint64_t) nogil
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t pwritev(int, const iovec *, int, int64_t) nogil
    ssize_t pwrite(int, const void *, size_t, int64_t) nogil
    int ftruncate(int, int64_t) nogil
    int RB_IOV

cdef enum:
    _EMPTY = 0
    _MORE = 1
    _HELD = 2
    _ERRNO = 3
    _LIE = 4
    _FULL = 5

cdef enum:
    LIE_NONE = 0
    LIE_ID = 1
    LIE_DATA_SIZE = 2
    LIE_HEADER = 3
    LIE_SEQUENCE = 4
    LIE_POSITION = 5
    LIE_PAGES = 6


# Index entry: nine big-endian u64; the ring buffer's packet context has the first ones
# in the same order, but the entry is built field by field from the row offsets.
cdef enum:
    INDEX_WORDS = 9
    INDEX_ENTRY = 72
    PAGE = 4096

# A CAS fails because another one won; so often in a row only a writer that means it does
# that, and it must not keep us here.
cdef enum:
    MAX_TRIES = 1 << 16
    MAX_OVERTAKEN = 64

cdef uint64_t NOREF = 1ull << 32
cdef uint64_t PAGE_BITS = 0xFFFFFFFFull
cdef int TURN_SHIFT = 33
cdef uint32_t DATA_MAGIC = 0xC1FC1FC1


# A packet as it was when it was checked. Writers can store to its memory at any time: what
# is decided or written down about it later comes from here, never from there again.
cdef struct Checked:
    uint64_t content, packet, begin, end, discarded, sequence


cdef struct RingState:
    # Where the words are (``Geometry.places``): offsets in the memory, trusted.
    uint64_t offset, consumed, record_disabled, last_tsc, rsb_id, active_readers
    uint64_t lost_full, lost_wrap, lost_big
    uint64_t get_subbuf_consumed, prod_snapshot, cons_snapshot, get_subbuf
    uint64_t hot, hot_stride, hot_cc, hot_seq, cold, cold_stride, cc_sb
    uint64_t ts_end, wsb, cnt, pages, page_stride, page_data_size, data
    uint64_t header_size
    uint64_t h_magic, h_uuid, h_stream_id, h_instance, h_ts_begin, h_ts_end
    uint64_t h_content, h_packet, h_seq, h_discarded, h_cpu
    # The memory, and the geometry in shifts and masks.
    char *base
    uint64_t size, count, total, mask, nr_pages
    int size_order, count_order, total_order
    bint overwrite, by_writer
    # Identity, written into packet headers.
    uint8_t uuid[16]
    uint32_t stream_id
    uint32_t cpu
    int wake_fd
    # What draining keeps: the two files and their ends, totals, what went wrong.
    int data_fd, index_fd
    uint64_t data_offset, index_offset, last_discarded
    # Bytes that the data file may have; 0: no limit.
    uint64_t file_limit
    # Bytes behind the consumed position that a reader has read and not given back.
    uint64_t ahead
    # Bytes per system call, where it is more than who drains says.
    uint64_t batch
    uint64_t packet_count, byte_count
    int error
    int lie


cdef int _log2(uint64_t value) nogil:
    cdef int order = 0
    while value > 1:
        value >>= 1
        order += 1
    return order


cdef inline uint64_t _trunc(RingState *r, uint64_t x) noexcept nogil:
    return x & ~(r.size - 1)


cdef inline uint64_t _align(RingState *r, uint64_t x) noexcept nogil:
    return (x + r.size) & ~(r.size - 1)


cdef inline uint64_t _index(RingState *r, uint64_t x) noexcept nogil:
    return (x & (r.total - 1)) >> r.size_order


cdef inline uint64_t _turn_units(RingState *r, uint64_t x) noexcept nogil:
    return (x & ~(r.total - 1)) >> r.count_order


cdef inline uint64_t _turn_tag(RingState *r, uint64_t x) noexcept nogil:
    return (x >> r.total_order) << TURN_SHIFT


cdef inline char *_word(RingState *r, uint64_t at) noexcept nogil:
    return r.base + at


cdef inline char *_cc(RingState *r, uint64_t index) noexcept nogil:
    return r.base + r.hot + index * r.hot_stride + r.hot_cc


cdef inline char *_seq(RingState *r, uint64_t index) noexcept nogil:
    return r.base + r.hot + index * r.hot_stride + r.hot_seq


cdef inline char *_cc_sb(RingState *r, uint64_t index) noexcept nogil:
    return r.base + r.cold + index * r.cold_stride + r.cc_sb


cdef inline char *_wsb(RingState *r, uint64_t index) noexcept nogil:
    return r.base + r.wsb + 8 * index


cdef inline bint _free_to_enter(RingState *r, uint64_t x) noexcept nogil:
    return _turn_units(r, x) == (rb_load(_cc_sb(r, _index(r, x))) & r.mask)


cdef inline bint _committed(RingState *r, uint64_t x) noexcept nogil:
    return ((rb_load(_cc_sb(r, _index(r, x))) - r.size) & r.mask) == _turn_units(r, x)


cdef inline uint64_t _page_of(RingState *r, uint64_t id) noexcept nogil:
    return id & PAGE_BITS if r.overwrite else id


cdef inline char *_page(RingState *r, uint64_t page) noexcept nogil:
    """Address of a page's bytes; NULL when no such page exists."""
    if page >= r.nr_pages:
        r.lie = LIE_ID
        return NULL
    return r.base + r.data + page * r.size


cdef inline char *_data_size(RingState *r, uint64_t page) noexcept nogil:
    return r.base + r.pages + page * r.page_stride + r.page_data_size
