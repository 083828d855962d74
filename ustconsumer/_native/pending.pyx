# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Having the main thread call something between two of its bytecodes."""

from cpython.ref cimport Py_DECREF, Py_INCREF

__all__ = ["Later", "call_soon"]

cdef extern from "Python.h":
    ctypedef int (*Pending)(void *) except -1
    int Py_AddPendingCall(Pending, void *) noexcept


cdef int _call(void *argument) except -1:
    callable_ = <object> argument
    # The reference that the queue held: this one is ours.
    Py_DECREF(callable_)
    callable_()
    return 0


def call_soon(callable_):
    """Have the main thread call something; see the stub."""
    Py_INCREF(callable_)
    if Py_AddPendingCall(_call, <void *> callable_) == 0:
        return True
    Py_DECREF(callable_)
    return False


cdef class Later:
    """Calls `call_soon` when it is called; see the stub."""

    cdef object _callable

    def __init__(self, callable_):
        self._callable = callable_

    def __call__(self):
        if not call_soon(self._callable):
            self._callable()
