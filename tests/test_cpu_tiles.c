/* test_cpu.c again, with the tile instructions in C: the amx kernels on machines without AMX.  It wants AVX-512 and VBMI, and takes amx alone. */
#include "soft_tiles.h"
#define TEST_CPU_ISAS "amx"
#define TEST_CPU_CYCLES 40
#include "test_cpu.c"
