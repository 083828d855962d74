# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Writing packets to files."""


cdef int _write_all(RingState *r, int data_fd, iovec *iov, int count, uint64_t offset) noexcept nogil:
    cdef ssize_t done
    cdef int first = 0
    rb_point(data_before)
    rb_tear(data_torn, data_fd, iov[0].iov_base, iov[0].iov_len, offset)
    while first < count:
        done = pwritev(data_fd, iov + first, count - first, <int64_t> offset)
        if done < 0:
            if errno == EINTR:
                continue
            r.error = errno
            return -1
        if done == 0:
            r.error = EIO
            return -1
        offset += done
        while first < count and <size_t> done >= iov[first].iov_len:
            done -= iov[first].iov_len
            first += 1
        if first < count and done:
            iov[first].iov_base = <char *> iov[first].iov_base + done
            iov[first].iov_len -= done
    rb_point(data_written)
    return 0
