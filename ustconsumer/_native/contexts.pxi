# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Contexts: what is recorded with every event of a channel."""

cdef enum:
    CTX_VTID = 0
    CTX_VPID = 1
    CTX_PTHREAD_ID = 2
    CTX_PROCNAME = 3
    CTX_CPU_ID = 4
    CTX_VUID = 5
    CTX_VEUID = 6
    CTX_VSUID = 7
    CTX_VGID = 8
    CTX_VEGID = 9
    CTX_VSGID = 10
    CTX_U64 = 11
    CTX_APP = 12

_CONTEXT_KINDS = {
    "vtid": CTX_VTID, "vpid": CTX_VPID, "pthread_id": CTX_PTHREAD_ID, "procname": CTX_PROCNAME,
    "cpu_id": CTX_CPU_ID, "vuid": CTX_VUID, "veuid": CTX_VEUID, "vsuid": CTX_VSUID,
    "vgid": CTX_VGID, "vegid": CTX_VEGID, "vsgid": CTX_VSGID, "u64": CTX_U64, "app": CTX_APP,
}
# Tags of an application context's variant, those it can have here.
cdef enum:
    TAG_NONE = 0
    TAG_INT64 = 4
    TAG_DOUBLE = 10
    TAG_STRING = 11
    PROCNAME_SIZE = 17
    MAX_CONTEXTS = 64

cdef struct Context:
    int kind
    uint64_t number


cdef inline uint64_t _context_size(int kind) noexcept nogil:
    if kind == CTX_PROCNAME:
        return PROCNAME_SIZE
    if kind == CTX_PTHREAD_ID or kind == CTX_U64:
        return 8
    return 0 if kind == CTX_APP else 4


cdef int _ask(object getter, Value *answer) except -1:
    """Have an application context say its value; ``number`` becomes the variant's tag."""
    cdef Py_ssize_t length
    cdef int overflow = 0
    cdef const char *nul
    answer.number = TAG_NONE
    try:
        value = getter()
        if value is None:
            return 0
        if isinstance(value, str):
            raw = (<str> value).encode("utf-8", "replace")
            length = PyBytes_GET_SIZE(raw)
            answer.bytes = PyBytes_AS_STRING(raw)
            nul = <const char *> memchr(answer.bytes, 0, length)
            answer.length = nul - answer.bytes if nul != NULL else length
            answer.owner = <PyObject *> raw
            Py_INCREF(raw)
            answer.number = TAG_STRING
        elif isinstance(value, float):
            answer.real = value
            answer.number = TAG_DOUBLE
        elif isinstance(value, int):
            answer.length = <uint64_t> PyLong_AsLongLongAndOverflow(value, &overflow)
            if not overflow:
                answer.number = TAG_INT64
    except Exception:
        # The context has no value then; the event has.
        pass
    return 0


cdef uint64_t _answer_size(Value *answer) noexcept nogil:
    if answer.number == TAG_STRING:
        return 1 + answer.length + 1
    return 1 if answer.number == TAG_NONE else 9


cdef char *_put_answer(char *at, Value *answer) noexcept nogil:
    at[0] = <char> answer.number
    at += 1
    if answer.number == TAG_STRING:
        memcpy(at, answer.bytes, answer.length)
        at[answer.length] = 0
        return at + answer.length + 1
    if answer.number == TAG_INT64:
        memcpy(at, &answer.length, 8)
        return at + 8
    if answer.number == TAG_DOUBLE:
        memcpy(at, &answer.real, 8)
        return at + 8
    return at
