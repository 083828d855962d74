# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Having the main thread call something between two of its bytecodes."""

from cpython.ref cimport Py_DECREF, Py_INCREF

__all__ = ["Later"]

cdef extern from "Python.h":
    ctypedef int (*Pending)(void *) except -1
    int Py_AddPendingCall(Pending, void *) noexcept


cdef int _call(void *argument) except -1:
    callable_ = <object> argument
    # The reference that the queue held: this one is ours.
    Py_DECREF(callable_)
    # Queued again only here, behind the last bytecode: an interpreter that comes between two
    # of them while it calls this takes note that there is nothing to call (Python 3.13).
    if callable_(False) and not _queue(callable_):
        callable_(True)
    return 0


cdef bint _queue(object callable_):
    Py_INCREF(callable_)
    if Py_AddPendingCall(_call, <void *> callable_) == 0:
        return True
    Py_DECREF(callable_)
    return False


cdef class Later:
    """Has something called soon when it is called; see the stub."""

    cdef object _callable

    def __init__(self, callable_):
        self._callable = callable_

    def __call__(self):
        if not _queue(self._callable):
            self._callable(True)
