# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Places at which a test build can be made to die. In a normal build there are none.

``rb_point(name)`` between two statements: a process killed by itself right there.
``rb_tear(name, fd, bytes, length, offset)`` before a write: killed in the middle of it.
Built with ``-DUST_KILL_POINTS`` each call is a place in a list that the linker gathers
from the calls themselves: a test that walks the list cannot miss one. The module
functions that arm them are the tests' (``tests/helpers/killpoints.pxi``).
"""

cdef extern from *:
    """
    #ifdef UST_KILL_POINTS
    #include <signal.h>
    #include <string.h>
    struct rb_place { const char *name; uint64_t fatal; uint64_t passed; };
    extern struct rb_place *__start_rb_places[], *__stop_rb_places[];
    static inline int rb_fatal(struct rb_place *place) {
        return ++place->passed == place->fatal;
    }
    static inline void rb_die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }
    static inline void rb_write_part(int fd, const void *bytes, size_t length, uint64_t offset) {
        ssize_t done = pwrite(fd, bytes, length / 2 + 1, (off_t) offset);
        (void) done;
    }
    #define RB_PLACE(point) \\
        static struct rb_place here_ = { #point, 0, 0 }; \\
        static struct rb_place *const where_ __attribute__((section("rb_places"), used)) = &here_
    #define rb_point(point) do { RB_PLACE(point); if (rb_fatal(&here_)) rb_die(); } while (0)
    #define rb_tear(point, fd, bytes, length, offset) do { \\
        RB_PLACE(point); \\
        if (rb_fatal(&here_)) { rb_write_part(fd, bytes, length, offset); rb_die(); } } while (0)
    #else
    #define rb_point(point) ((void) 0)
    #define rb_tear(point, fd, bytes, length, offset) ((void) 0)
    #endif
    """
    void rb_point(int) nogil
    void rb_tear(int, int, const void *, size_t, uint64_t) nogil
    # Names, not values: nothing of this reaches the compiler but the calls.
    int snapshot_consumed, snapshot_produced
    int exchange_allowed, exchange_tagged, exchange_swapped, exchange_done
    int get_readable, get_taken, get_referenced, get_position, get_held
    int put_held, put_released, put_unreferenced, put_done
    int move_forward, move_moved
    int header_begun
    int deliver_elected, deliver_time, deliver_header, deliver_counted, deliver_id
    int deliver_delivered, deliver_contiguous
    int commit_written, commit_counted
    int switch_begun, switch_reserved, switch_time, switch_reader_pushed, switch_entered
    int switch_header, switch_size, switch_closed, switch_done
    int data_before, data_torn, data_written
    int index_torn, index_written
    int drain_checked, drain_moved
    int take_over_page, take_over_released, take_over_done
