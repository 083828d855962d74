# SPDX-License-Identifier: MIT
# cython: language_level=3
"""A read-only window into memory that knows who still looks through it."""

from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_GetBuffer,
)

__all__ = ["Window"]


cdef class Window:
    """Part of a buffer, read-only, with its exports counted.

    A memoryview cannot tell: views of a view register with the owner, not with it.

    Parameters
    ----------
    memory : buffer
        Stays exported while the window lives.
    start, size : int
        Byte range.

    Raises
    ------
    IndexError
        The range leaves the memory.
    """

    cdef Py_buffer _view
    cdef bint _held
    cdef char *_start
    cdef Py_ssize_t _size
    cdef readonly Py_ssize_t exports

    def __cinit__(self, memory, Py_ssize_t start, Py_ssize_t size):
        self._held = False
        PyObject_GetBuffer(memory, &self._view, PyBUF_SIMPLE)
        self._held = True
        if start < 0 or size < 0 or start > self._view.len - size:
            raise IndexError(f"[{start}, {start + size}) leaves {self._view.len} bytes")
        self._start = <char *> self._view.buf + start
        self._size = size

    def __dealloc__(self):
        if self._held:
            PyBuffer_Release(&self._view)

    def __len__(self):
        return self._size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self._start, self._size, 1, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1
