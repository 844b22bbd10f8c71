/* What tests hold of a stack server: its clock, and its steps. */

#include "stackd.h"

#define PUBLIC __attribute__((visibility("default")))

PUBLIC struct um_stackd *test_create(int control);
PUBLIC void test_destroy(struct um_stackd *d);
PUBLIC int test_step(struct um_stackd *d);
PUBLIC void test_clock(uint32_t now_ms);
PUBLIC int test_checksum(const void *data, int len);

static uint32_t clock_ms;

uint32_t um_stackd_now_ms(void)
{
    return clock_ms;
}

void test_clock(uint32_t now_ms)
{
    clock_ms = now_ms;
}

struct um_stackd *test_create(int control)
{
    return um_stackd_create(control);
}

void test_destroy(struct um_stackd *d)
{
    um_stackd_destroy(d);
}

int test_step(struct um_stackd *d)
{
    return um_stackd_step(d, 0);
}

int test_checksum(const void *data, int len)
{
    return um_checksum(data, len);
}
