#!/bin/sh
# The NEON kernels of smolq_cpu.c in the emulator: tests/test_cpu.c on a processor that has all of them, then on others that each kernel set was made for, where an
# instruction too new would be illegal; hashes of whole forwards against those of the native reference backend.
#
# SMOLQ_LONG=1 adds the whole forwards of tests/test_cpu.c, all golden models, clang and other flags.
set -u
cd "$(dirname "$0")/.." || exit 1
long=${SMOLQ_LONG-}
shared=${SMOLQ_SHARED-../shared/data}
cc=aarch64-linux-gnu-gcc
failed=0
s=$(mktemp -d) || exit 1
trap 'rm -rf "$s"' EXIT

ok() { echo "ok   $1"; }
fail() { echo "FAIL $1: $(echo "$2" | head -c 300 | tr '\n' ' ')"; failed=1; }
have() { command -v "$1" >/dev/null 2>&1; }
same() { # name, expected, found
    if [ "$2" = "$3" ]; then ok "$1"; else fail "$1" "expected $2, found $3"; fi
}
compile() { # name, object, compiler, flags and source
    name=$1 object=$2
    shift 2
    "$@" -Wall -Wextra -Wno-unused-function -Werror -I. -isystem "$s/stb" -c -o "$s/$object" 2>"$s/why" && return 0
    fail "$name compiles" "$(grep -m 1 -E 'error|warning' "$s/why")"
    return 1
}
link() { # program, objects
    program=$1
    shift
    (cd "$s" && $cc -static "$@" -o "$program" -lm -lpthread) 2>"$s/why" && return 0
    fail "$program links" "$(tail -n 1 "$s/why")"
    return 1
}
results() { # name, then a run of the test program: its lines with the name, and one that says whether it ended
    name=$1
    shift
    env -u SMOLQ_LONG "$@" >"$s/out" 2>"$s/why" </dev/null # in the emulator samples must do
    status=$?
    sed -n -E "s/^(ok  |FAIL|skip) (.*)/\1 $name: \2/p" "$s/out"
    [ $status -eq 0 ] || { failed=1; grep -q '^FAIL' "$s/out" || fail "$name" "status $status $(tail -n 1 "$s/why")"; }
}

have $cc || { echo "skip NEON: no $cc (Debian: gcc-aarch64-linux-gnu)"; exit 0; }
have qemu-aarch64-static || { echo "skip NEON: no qemu-aarch64-static (Debian: qemu-user-static)"; exit 0; }
mkdir "$s/stb" # cross compilers don't look into /usr/include, and must not
for stb in /usr/include/stb/stb_ds.h /usr/local/include/stb/stb_ds.h /usr/include/stb_ds.h /usr/local/include/stb_ds.h; do
    [ -f "$stb" ] && cp "$stb" "$s/stb/stb_ds.h" && break
done

# ---- operations ----

[ -n "$long" ] && some= || some=-whole
compile "gcc: smolq_cpu.c" cpu.o $cc -O2 smolq_cpu.c && compile "gcc: tests/test_cpu.c" test.o $cc -std=gnu99 -O2 -DTEST_CPU_LINKED tests/test_cpu.c && link test_cpu test.o cpu.o || exit 1
results "all of NEON" qemu-aarch64-static -cpu max "$s/test_cpu" $some
absent() { sed -n 's/^\(neon-.*\) is not on this machine.*/\1/p' "$s/out" | tr '\n' ' '; }
same "all of NEON is found" "" "$(absent)"
results "without matrix products" qemu-aarch64-static -cpu neoverse-n1 "$s/test_cpu" "products: parts"
same "matrix products are not found on a neoverse-n1" "neon-i8mm " "$(absent)"
results "without dot products" qemu-aarch64-static -cpu cortex-a72 "$s/test_cpu" "products: parts"
same "dot products are not found on a cortex-a72" "neon-dotprod neon-i8mm " "$(absent)"

# ---- whole forwards ----

models=examples/models/smolq-tales.Q4_K_M.gguf
for name in llama-spm.Q4_K_M llama3.f16 qwen2-odd.Q4_K_M qwen3moe.MXFP4_MOE smollm3.IQ4_XS; do
    [ -f "$shared/golden/logits/$name.gguf" ] && models="$models $shared/golden/logits/$name.gguf"
done
[ -n "$long" ] && [ -d "$shared/golden/logits" ] && models="$models $(echo "$shared"/golden/logits/*.gguf)"
[ -d "$shared/golden/logits" ] || echo "skip whole forwards of the golden models: no shared data"
ids="4 17 42 9 23 5 64 31 8 77 12 3 90 55 6 21 38 49 2 71"
native=build/logits
[ -x $native ] || { native=$s/logits && ${CC-cc} -O2 -I. examples/logits.c -o "$native" -lm 2>"$s/why" || fail "examples/logits.c compiles" "$(grep -m 1 error "$s/why")"; }
if compile "gcc: examples/logits.c" logits.o $cc -O2 -DSMOLQ_WITH_CPU examples/logits.c && link logits.arm logits.o cpu.o; then
    for model in $models; do
        expected=$("$native" -m "$model" --tokens "$ids" --hash --backend ref 2>"$s/why")
        for processor in max neoverse-n1 cortex-a72; do # thirteen tokens go over panels, seven do not
            found=$(qemu-aarch64-static -cpu $processor "$s/logits.arm" -m "$model" --tokens "$ids" --hash --backend cpu --isa neon -t 2 --batch 13 2>"$s/why")
            same "$(basename "$model") on a $processor" "$expected" "${found:-$(tail -n 1 "$s/why")}"
        done
    done
fi

# ---- another compiler, other flags ----

again() { # name, compiler and flags: smolq_cpu.c of another compiler with the rest of the first one
    which=$1
    shift
    compile "$which: smolq_cpu.c" again.o "$@" smolq_cpu.c && link test_again test.o again.o && results "$which" qemu-aarch64-static -cpu max "$s/test_again" products
}
clang="clang --target=aarch64-linux-gnu"
if [ -z "$long" ]; then clang=
elif echo '#include <stdlib.h>' | $clang -x c -fsyntax-only - >/dev/null 2>&1; then again clang $clang -O2; else clang='' && echo "skip NEON with clang: no clang that compiles for ARM here"; fi
if [ -n "$long" ]; then
    for flags in -march=armv8.6-a -mcpu=neoverse-n1 -O3 -O0; do
        again "gcc $flags" $cc -O2 $flags
        [ -z "$clang" ] || again "clang $flags" $clang -O2 $flags
    done
fi
exit $failed
