# SPDX-License-Identifier: MIT
"""Appended to ``ring.pyx`` in a test build: which places there are, and dying at one."""

cdef extern from *:
    struct rb_place:
        const char *name
        uint64_t fatal
        uint64_t passed
    rb_place **_first_place "__start_rb_places"
    rb_place **_end_of_places "__stop_rb_places"


def kill_points():
    """Return the names of all places, sorted."""
    cdef rb_place **each = _first_place
    names = set()
    while each < _end_of_places:
        names.add(each[0].name.decode())
        each += 1
    return tuple(sorted(names))


def arm(str point, uint64_t passes):
    """Kill this process when it passes a place for the ``passes``-th time from now on."""
    cdef rb_place **each = _first_place
    known = False
    while each < _end_of_places:
        each[0].passed = 0
        each[0].fatal = 0
        if each[0].name.decode() == point:
            each[0].fatal = passes
            known = True
        each += 1
    if not known:
        raise KeyError(point)
