/* SPDX-License-Identifier: MIT */
/*
 * ros2 N
 *
 * Stands for a ROS 2 node: emits N events of a provider called ros2.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "ros2_tp.h"
#include "common.h"

int main(int argc, char **argv)
{
	if (argc != 2)
		return usage("ros2 N");
	for (int seq = 0; seq < atoi(argv[1]); seq++)
		lttng_ust_tracepoint(ros2, callback_start, seq);
	return 0;
}
