/* SPDX-License-Identifier: MIT */
/* What the test programs share: usage line, files as signals, texts. */
#ifndef COMMON_H
#define COMMON_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static inline int usage(const char *line)
{
	fprintf(stderr, "usage: %s\n", line);
	return 2;
}

/* A failure ends the program: a test that waits for the file must not hang. */
static inline void touch(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	if (fd < 0) {
		perror(path);
		exit(1);
	}
	close(fd);
}

static inline void pause_ms(long ms)
{
	struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&time, NULL);
}

static inline void await(const char *path)
{
	while (access(path, F_OK))
		pause_ms(1);
}

/* A text of so many bytes, the zero at its end included; NULL if there is none. */
static inline char *letters(long bytes)
{
	char *text = bytes < 1 ? NULL : malloc(bytes);

	if (text) {
		memset(text, 'x', bytes);
		text[bytes - 1] = 0;
	}
	return text;
}

#endif
