/* SPDX-License-Identifier: MIT */
/*
 * late LIBRARY N TIMES
 *
 * Knows nothing of tracing. Loads LIBRARY (late_provider) when it runs already, has it emit
 * N late:tick events, and unloads it; TIMES times, seq going on.
 */
#include "common.h"

#include <dlfcn.h>

int main(int argc, char **argv)
{
	int count, times;

	if (argc != 4)
		return usage("late LIBRARY N TIMES");
	count = atoi(argv[2]);
	times = atoi(argv[3]);
	for (int time = 0; time < times; time++) {
		void *library = dlopen(argv[1], RTLD_NOW);
		void (*emit)(int, int);

		if (!library) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		*(void **) &emit = dlsym(library, "emit");
		if (!emit)
			return 1;
		emit(time * count, count);
		if (dlclose(library))
			return 1;
	}
	return 0;
}
