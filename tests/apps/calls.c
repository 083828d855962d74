/* SPDX-License-Identifier: MIT */
/*
 * calls N
 *
 * Has no tracepoints, but is compiled with -finstrument-functions. Calls work() N times, which
 * allocates and frees 12345 bytes and takes and releases a lock; then loads libm.so.6.
 */
#include "common.h"

#include <dlfcn.h>
#include <pthread.h>

#define PECULIAR_SIZE 12345

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* The compiler must not know that the memory is of no use. */
static void *volatile memory;

__attribute__((noinline)) static void work(void)
{
	pthread_mutex_lock(&lock);
	memory = malloc(PECULIAR_SIZE);
	free(memory);
	pthread_mutex_unlock(&lock);
}

int main(int argc, char **argv)
{
	int count;

	if (argc != 2)
		return usage("calls N");
	count = atoi(argv[1]);
	for (int call = 0; call < count; call++)
		work();
	return !dlopen("libm.so.6", RTLD_NOW);
}
