/* SPDX-License-Identifier: MIT */
/*
 * progress FILE THREADS [--spread]
 *
 * Emits flood:tick events for ever at full speed. FILE is an array of 8-byte integers, one
 * per thread, in shared memory: how many of its events are complete. It outlives the
 * program. With --spread each thread stays on a CPU of its own, else all stay on the
 * first one the program may use.
 */
#define _GNU_SOURCE
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "flood_tp.h"
#include "common.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mman.h>

static volatile int64_t *complete;
static int spread;

static void stay(int which)
{
	cpu_set_t all, one;

	CPU_ZERO(&one);
	sched_getaffinity(0, sizeof(all), &all);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &all) && which-- == 0) {
			CPU_SET(cpu, &one);
			break;
		}
	}
	if (sched_setaffinity(0, sizeof(one), &one)) {
		perror("sched_setaffinity");
		exit(1);
	}
}

static void *run(void *argument)
{
	int thread = (int) (long) argument;

	stay(spread ? thread : 0);
	for (int seq = 0;; seq++) {
		lttng_ust_tracepoint(flood, tick, seq, thread, "flood");
		complete[thread] = seq + 1;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	long threads = argc > 2 ? atol(argv[2]) : 0;
	pthread_t id;
	int fd;

	spread = argc == 4 && !strcmp(argv[3], "--spread");
	if (threads < 1 || argc > 3 + spread)
		return usage("progress FILE THREADS [--spread]");
	fd = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0 || ftruncate(fd, threads * sizeof(*complete))) {
		perror(argv[1]);
		return 1;
	}
	complete = mmap(NULL, threads * sizeof(*complete), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (complete == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	for (long thread = 0; thread < threads; thread++) {
		if (pthread_create(&id, NULL, run, (void *) thread))
			return 1;
	}
	pause();
	return 0;
}
