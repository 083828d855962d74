# SPDX-License-Identifier: MIT
# cython: language_level=3, boundscheck=False, wraparound=False
"""Atomic accesses to a word of a buffer (shared memory, mostly).

Each takes an object with the buffer protocol and a byte offset that must be a
multiple of the word's size inside the buffer. Loads acquire, stores release, the
read-modify-write operations are full barriers.
"""

from cpython.buffer cimport PyObject_GetBuffer, PyBuffer_Release, PyBUF_SIMPLE, PyBUF_WRITABLE
from libc.stdint cimport int64_t, uint32_t, uint64_t

__all__ = [
    "cas_u64",
    "fence",
    "fetch_add_u64",
    "futex_wake",
    "load_u32",
    "load_u64",
    "store_u32",
    "store_u64",
]

cdef extern from *:
    """
    #include <limits.h>
    #include <linux/futex.h>
    #include <stdint.h>
    #include <sys/syscall.h>
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
    """
    uint64_t uc_load64(const void *) nogil
    uint32_t uc_load32(const void *) nogil
    void uc_store64(void *, uint64_t) nogil
    void uc_store32(void *, uint32_t) nogil
    uint64_t uc_cas64(void *, uint64_t, uint64_t) nogil
    uint64_t uc_add64(void *, uint64_t) nogil
    void uc_fence() nogil
    long uc_futex_wake(void *, int) nogil


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
