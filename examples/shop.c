/* SPDX-License-Identifier: MIT */
/*
 * A program with a tracepoint:
 *   gcc -Iexamples examples/shop.c -o shop -llttng-ust -ldl
 *   drtrace record -e 'shop:*' -- ./shop
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "shop_tp.h"

int main(void)
{
	static const char *const items[] = { "tea", "bread", "honey" };

	for (int number = 0; number < 3; number++)
		lttng_ust_tracepoint(shop, order, number, items[number], 2.5 * (number + 1));
	return 0;
}
