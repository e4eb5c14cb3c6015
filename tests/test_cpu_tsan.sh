#!/bin/sh
# The pool of smolq_cpu.c under ThreadSanitizer: the tests of tests/test_cpu.c that have "threads" in their names, no race reported.
# With one instruction set, since the pool is the same for all.
set -u
cd "$(dirname "$0")/.." || exit 1
s=$(mktemp -d) || exit 1
trap 'rm -rf "$s"' EXIT
name="the pool of the CPU backend without a race"
ran=
echo 'int main(void) { return 0; }' >"$s/none.c"
for cc in gcc clang; do
    ${cc} -fsanitize=thread "$s/none.c" -o "$s/none" >/dev/null 2>&1 || continue
    run=
    "$s/none" >/dev/null 2>&1 || run='setarch -R' # old runtimes stumble over the address layout of new kernels
    $run "$s/none" >/dev/null 2>&1 || continue
    if ! $cc -std=gnu99 -O1 -g -fsanitize=thread -DSMOLQ_CPU_NO_AVX512 -DTEST_CPU_CYCLES=40 -DTEST_CPU_ISAS='"avx2", "neon-base"' -I. tests/test_cpu.c -o "$s/tsan" -lm -lpthread 2>"$s/why"; then
        echo "FAIL $name ($cc): $(grep -m 1 error "$s/why")"
        exit 1
    fi
    if TSAN_OPTIONS="halt_on_error=0 exitcode=66" $run "$s/tsan" threads >"$s/out" 2>&1; then echo "ok   $name ($cc)"
    else
        echo "FAIL $name ($cc): $(grep -m 3 -E '^FAIL|WARNING: ThreadSanitizer|#0' "$s/out" | tr '\n' ' ' | head -c 300)"
        exit 1
    fi
    ran=1
    [ -n "${SMOLQ_LONG-}" ] || break
done
[ -n "$ran" ] || echo "skip $name: no compiler with ThreadSanitizer"
