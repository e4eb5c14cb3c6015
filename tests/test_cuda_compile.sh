#!/bin/sh
# smolq_cuda.cu as nvcc compiles it: no warning, no kernel that keeps registers in memory, weights read 16 bytes at a time; for the oldest and the newest architecture, with SMOLQ_LONG=1 for
# all of make cuda, which together must stay below 12 MB.
set -u
cd "$(dirname "$0")/.." || exit 1
s=$(mktemp -d) || exit 1
trap 'rm -rf "$s"' EXIT
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null) || { echo "skip the CUDA backend as nvcc compiles it: no nvcc"; exit 0; }
failed=0
check() { # NAME STATUS [WHY]
    if [ "$2" -eq 0 ]; then echo "ok   $1"; else echo "FAIL $1: $3"; failed=1; fi
}

[ -n "${SMOLQ_LONG-}" ] && archs='75 80 86 89 90' || archs='75 90'
for sm in $archs; do
    mkdir "$s/$sm"
    "$nvcc" -O2 -I. -Xcompiler -Wall,-Wextra,-Wno-unused-function -Xptxas -v --keep --keep-dir "$s/$sm" -gencode "arch=compute_$sm,code=sm_$sm" -c smolq_cuda.cu -o "$s/$sm.o" >"$s/$sm.log" 2>&1
    status=$?
    check "smolq_cuda.cu compiles for sm_$sm" $status "$(grep -m 1 error "$s/$sm.log")"
    [ $status -eq 0 ] || continue
    why=$(grep -m 1 -i warning "$s/$sm.log")
    check "without a warning for sm_$sm" "$(grep -c -i warning "$s/$sm.log")" "$why"
    # "Compiling entry function 'NAME'", then its stack frame and spills
    spills=$(awk '/Compiling entry/ { name = $6 } / bytes spill stores/ && !/ 0 bytes spill stores, 0 bytes spill loads/ { print name ": " $0 }' "$s/$sm.log")
    check "no kernel spills on sm_$sm" "$(printf '%s' "$spills" | grep -c .)" "$spills"
done

# In PTX: a matvec loads 32 bytes of activations, and of each of its four rows 16 bytes or 32.
for type in Q4_0:6 Q5_0:6 Q8_0:10 Q4_K:10 Q5_K:18 Q6_K:18; do
    name=${type%:*} least=${type#*:}
    n=$(awk -v name="matvec.*format_${name}Li4E" '/^\.entry|\.entry / { inside = $0 ~ name } inside && /ld\.global(\.nc)?\.v4/ { n++ } END { print n + 0 }' "$s"/90/*.ptx)
    check "a matvec of $name reads 16 bytes at a time" $((n < least)) "$n wide loads, expected $least"
done

# On sm_90 a kernel begins before the one ahead of it has ended: it waits before it touches what that one may write, so all but weights (ld.global.nc).
early=$(awk '/\.entry / { name = $NF; waits = 0 } /griddepcontrol\.wait/ { waits = 1 }
    name && !waits && / *(ld\.global|ld\.volatile|st\.global|atom|red)\./ && !/ld\.global\.nc/ { print name; name = "" }
    /^}/ { if (name && !waits) print name; name = "" }' "$s"/90/*.ptx)
check "every kernel waits for the one before" "$(printf '%s' "$early" | grep -c .)" "$(printf '%s' "$early" | head -n 1)"

if [ -n "${SMOLQ_LONG-}" ]; then
    make -s NVCC="$nvcc" build/smolq_cuda.o >"$s/all.log" 2>&1
    status=$?
    check "make cuda" $status "$(tail -n 1 "$s/all.log")"
    if [ $status -eq 0 ]; then
        bytes=$(wc -c <build/smolq_cuda.o)
        check "all architectures together take $((bytes / 1000)) KB" $((bytes > 12000000)) "expected less than 12 MB"
    fi
fi
exit $failed
