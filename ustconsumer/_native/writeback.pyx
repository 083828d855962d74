# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Ask the kernel to start writing a part of a file, or to have room for it."""

from libc.errno cimport errno
from libc.stdint cimport int64_t

import os

__all__ = ["reserve", "start_writeback"]

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <fcntl.h>
    #include <linux/falloc.h>
    #include <stdint.h>
    static int wb_start(int fd, int64_t offset, int64_t length) {
        return sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE);
    }
    static int wb_reserve(int fd, int64_t offset, int64_t length) {
        return fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, length);
    }
    """
    int wb_start(int, int64_t, int64_t) nogil
    int wb_reserve(int, int64_t, int64_t) nogil


def start_writeback(int fd, int64_t offset, int64_t length):
    """Start writing the dirty pages of a range; returns at once, syncs nothing.

    Raises
    ------
    OSError
        Not a regular file, for example.
    """
    cdef int result
    with nogil:
        result = wb_start(fd, offset, length)
    if result < 0:
        raise OSError(errno, os.strerror(errno))


def reserve(int fd, int64_t offset, int64_t length):
    """Have blocks allocated for a range behind a file's end; its size stays as it is.

    Raises
    ------
    OSError
        There is no room, or the file system cannot.
    """
    cdef int result
    with nogil:
        result = wb_reserve(fd, offset, length)
    if result < 0:
        raise OSError(errno, os.strerror(errno))
