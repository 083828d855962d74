# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False
"""Atomic accesses to a word of a buffer (shared memory, mostly).

Each takes an object with the buffer protocol and a byte offset that must be a
multiple of the word's size inside the buffer. Loads acquire, stores release, the
read-modify-write operations are full barriers.
"""

from cpython.buffer cimport PyObject_GetBuffer, PyBuffer_Release, PyBUF_SIMPLE, PyBUF_WRITABLE
from libc.errno cimport EAGAIN, EINTR, ETIMEDOUT, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport strerror

__all__ = [
    "cas_u64",
    "fence",
    "fetch_add_u64",
    "futex_wait_any",
    "futex_wake",
    "load_u32",
    "load_u64",
    "store_u32",
    "store_u64",
]

cdef extern from *:
    """
    #include <errno.h>
    #include <limits.h>
    #include <linux/futex.h>
    #include <stdint.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>
    static inline uint64_t uc_load64(const void *p) { return __atomic_load_n((const uint64_t *) p, __ATOMIC_ACQUIRE); }
    static inline uint32_t uc_load32(const void *p) { return __atomic_load_n((const uint32_t *) p, __ATOMIC_ACQUIRE); }
    static inline void uc_store64(void *p, uint64_t v) { __atomic_store_n((uint64_t *) p, v, __ATOMIC_RELEASE); }
    static inline void uc_store32(void *p, uint32_t v) { __atomic_store_n((uint32_t *) p, v, __ATOMIC_RELEASE); }
    static inline uint64_t uc_cas64(void *p, uint64_t expected, uint64_t desired) {
        __atomic_compare_exchange_n((uint64_t *) p, &expected, desired, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        return expected;
    }
    static inline uint64_t uc_add64(void *p, uint64_t v) { return __atomic_fetch_add((uint64_t *) p, v, __ATOMIC_SEQ_CST); }
    static inline void uc_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
    static inline long uc_futex_wake(void *p, int n) { return syscall(SYS_futex, p, FUTEX_WAKE, n, (void *) 0, (void *) 0, 0); }

    /* futex_waitv, Linux 5.16: headers and C library may be older than the kernel. */
    struct uc_waitv { uint64_t val; uint64_t uaddr; uint32_t flags; uint32_t reserved; };
    static inline void uc_waitv_set(struct uc_waitv *w, const void *p, uint32_t expected) {
        w->val = expected; w->uaddr = (uint64_t) (uintptr_t) p; w->flags = 2 /* FUTEX_32 */; w->reserved = 0;
    }
    static inline long uc_futex_waitv(struct uc_waitv *w, unsigned count, int64_t timeout_ns) {
        struct timespec until;
        if (timeout_ns < 0)
            return syscall(449, w, count, 0, (void *) 0, CLOCK_MONOTONIC);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += timeout_ns / 1000000000;
        until.tv_nsec += timeout_ns % 1000000000;
        if (until.tv_nsec >= 1000000000) { until.tv_sec++; until.tv_nsec -= 1000000000; }
        return syscall(449, w, count, 0, &until, CLOCK_MONOTONIC);
    }
    """
    struct uc_waitv:
        pass
    uint64_t uc_load64(const void *) nogil
    uint32_t uc_load32(const void *) nogil
    void uc_store64(void *, uint64_t) nogil
    void uc_store32(void *, uint32_t) nogil
    uint64_t uc_cas64(void *, uint64_t, uint64_t) nogil
    uint64_t uc_add64(void *, uint64_t) nogil
    void uc_fence() nogil
    long uc_futex_wake(void *, int) nogil
    void uc_waitv_set(uc_waitv *, const void *, uint32_t) nogil
    long uc_futex_waitv(uc_waitv *, unsigned, int64_t) nogil

cdef enum:
    MAX_WORDS = 8


cdef char *_word(object buffer, Py_buffer *view, Py_ssize_t offset, int size, int flags) except NULL:
    PyObject_GetBuffer(buffer, view, flags)
    if offset < 0 or offset > view.len - size or (<size_t> view.buf + <size_t> offset) % size:
        length = view.len
        PyBuffer_Release(view)
        raise IndexError(f"no aligned {size}-byte word at {offset} in a buffer of {length} bytes")
    return <char *> view.buf + offset


def load_u64(buffer, Py_ssize_t offset):
    """Return the word at ``offset`` (acquire); read-only buffers are fine."""
    cdef Py_buffer view
    cdef char *at = _word(buffer, &view, offset, 8, PyBUF_SIMPLE)
    cdef uint64_t value = uc_load64(at)
    PyBuffer_Release(&view)
    return value


def load_u32(buffer, Py_ssize_t offset):
    """Return the 32-bit word at ``offset`` (acquire); read-only buffers are fine."""
    cdef Py_buffer view
    cdef char *at = _word(buffer, &view, offset, 4, PyBUF_SIMPLE)
    cdef uint32_t value = uc_load32(at)
    PyBuffer_Release(&view)
    return value


def store_u64(buffer, Py_ssize_t offset, uint64_t value):
    """Store a word (release)."""
    cdef Py_buffer view
    cdef char *at = _word(buffer, &view, offset, 8, PyBUF_WRITABLE)
    uc_store64(at, value)
    PyBuffer_Release(&view)


def store_u32(buffer, Py_ssize_t offset, uint32_t value):
    """Store a 32-bit word (release)."""
    cdef Py_buffer view
    cdef char *at = _word(buffer, &view, offset, 4, PyBUF_WRITABLE)
    uc_store32(at, value)
    PyBuffer_Release(&view)


def cas_u64(buffer, Py_ssize_t offset, uint64_t expected, uint64_t desired):
    """Store ``desired`` if the word is ``expected``; return the word found."""
    cdef Py_buffer view
    cdef char *at = _word(buffer, &view, offset, 8, PyBUF_WRITABLE)
    cdef uint64_t found = uc_cas64(at, expected, desired)
    PyBuffer_Release(&view)
    return found


def fetch_add_u64(buffer, Py_ssize_t offset, delta):
    """Add ``delta`` (wrapping, may be negative); return the word before."""
    cdef Py_buffer view
    cdef uint64_t step = <uint64_t> (delta & 0xFFFFFFFFFFFFFFFF)
    cdef char *at = _word(buffer, &view, offset, 8, PyBUF_WRITABLE)
    cdef uint64_t before = uc_add64(at, step)
    PyBuffer_Release(&view)
    return before


def fence():
    """Full memory barrier."""
    uc_fence()


def futex_wake(buffer, Py_ssize_t offset, int count):
    """Wake at most ``count`` waiters of the 32-bit word, of any process; return how many."""
    cdef Py_buffer view
    cdef char *at = _word(buffer, &view, offset, 4, PyBUF_WRITABLE)
    cdef long woken = uc_futex_wake(at, count)
    PyBuffer_Release(&view)
    return woken


def futex_wait_any(words, int64_t timeout_ns=-1):
    """Sleep, without the GIL, until one of several words is woken; see the stub."""
    cdef Py_buffer views[MAX_WORDS]
    cdef uc_waitv waits[MAX_WORDS]
    cdef uint32_t expected
    cdef Py_ssize_t offset
    cdef char *at
    cdef int held = 0
    cdef long woken
    cdef int error
    if not 1 <= len(words) <= MAX_WORDS:
        raise ValueError(f"{len(words)} words to wait for: 1 to {MAX_WORDS}")
    try:
        for buffer, offset, expected in words:
            at = _word(buffer, &views[held], offset, 4, PyBUF_SIMPLE)
            uc_waitv_set(&waits[held], at, expected)
            held += 1
        with nogil:
            woken = uc_futex_waitv(waits, held, timeout_ns)
            error = errno
    finally:
        while held:
            held -= 1
            PyBuffer_Release(&views[held])
    if woken >= 0:
        return woken
    if error in (EAGAIN, EINTR, ETIMEDOUT):
        return -1
    raise OSError(error, strerror(error).decode())
