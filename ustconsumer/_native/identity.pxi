# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Who emits: thread, process, user, CPU. What cannot change is asked for once."""

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <pthread.h>
    #include <sched.h>
    #include <string.h>
    #include <sys/prctl.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #define UE_NAME 17
    /* Every child of a fork counts one more: what a thread or process remembers is of one. */
    static unsigned ue_generation = 1;
    static unsigned ue_process_generation;
    static int ue_process;
    static __thread unsigned ue_thread_generation;
    static __thread int ue_thread;
    static __thread char ue_name[UE_NAME];
    static inline void ue_forget(void) { ue_generation++; }
    static inline void ue_remember(void) {
        if (ue_thread_generation == ue_generation)
            return;
        ue_thread = (int) syscall(SYS_gettid);
        memset(ue_name, 0, sizeof(ue_name));
        prctl(PR_GET_NAME, ue_name, 0, 0, 0);
        ue_thread_generation = ue_generation;
    }
    static inline int ue_vtid(void) { ue_remember(); return ue_thread; }
    static inline void ue_procname(char *at) { ue_remember(); memcpy(at, ue_name, UE_NAME); }
    static inline int ue_vpid(void) {
        if (ue_process_generation != ue_generation) {
            ue_process = (int) getpid();
            ue_process_generation = ue_generation;
        }
        return ue_process;
    }
    static inline uint64_t ue_pthread_id(void) { return (uint64_t) pthread_self(); }
    static inline int ue_cpu(void) { int cpu = sched_getcpu(); return cpu < 0 ? 0 : cpu; }
    static inline void ue_set_name(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }
    /* which: real, effective, saved user, then the same of the group */
    static inline uint32_t ue_user(int which) {
        uid_t id[3];
        gid_t group[3];
        if (which < 3)
            return getresuid(&id[0], &id[1], &id[2]) == 0 ? (uint32_t) id[which] : 0;
        return getresgid(&group[0], &group[1], &group[2]) == 0 ? (uint32_t) group[which - 3] : 0;
    }
    """
    void ue_forget()
    int ue_vtid() nogil
    int ue_vpid() nogil
    uint64_t ue_pthread_id() nogil
    void ue_procname(char *) nogil
    int ue_cpu() nogil
    void ue_set_name(const char *)
    uint32_t ue_user(int) nogil
