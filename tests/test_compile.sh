#!/bin/sh
# smolq.h compiles and links everywhere, and computes the same bits everywhere.
#
# Two native compilers in four languages, 32-bit x86, Windows and ARM, each with no warning, after every standard header, as a unity build, as a
# library; tests/portable.c then prints hashes of logits, which must be those of the plain native build.  A compiler that is not installed is
# skipped by name.  SMOLQ_LONG=1 compiles the full cross product; else every combination is parsed or sampled in rotation by SMOLQ_SEED.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
long=${SMOLQ_LONG-}
seed=${SMOLQ_SEED-$(date +%s)}
model=examples/models/smolq-tales.Q4_K_M.gguf
shared=${SMOLQ_SHARED-../shared/data}
strict='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror'
failed=0
s=$(mktemp -d) || exit 1
WINEPREFIX=$s/wine WINEDEBUG=-all WINEDLLOVERRIDES="mscoree=;mshtml="
export WINEPREFIX WINEDEBUG WINEDLLOVERRIDES
trap 'if [ -d "$s/wine" ]; then wineserver -k 2>/dev/null; wineserver -w 2>/dev/null; fi; rm -rf "$s"' EXIT
echo "seed $seed"

ok() { echo "ok   $1"; }
fail() { echo "FAIL $1: $(echo "$2" | head -c 300 | tr '\n' ' ')"; failed=1; }
skip() { echo "skip $1: $2"; }
have() { command -v "$1" >/dev/null 2>&1; }
why() { grep -m 1 -E 'error|warning|multiple definition|undefined|cannot find' "$s/why" || tail -n 1 "$s/why"; }
try() { # name, command: must succeed
    name=$1
    shift
    if "$@" >"$s/why" 2>&1; then ok "$name"; else fail "$name" "$(why)"; return 1; fi
}
refuse() { # name, word that the message must hold, command: must fail
    name=$1 word=$2
    shift 2
    if "$@" >"$s/why" 2>&1; then fail "$name" "it compiled"
    elif grep -q -e "$word" "$s/why"; then ok "$name"
    else fail "$name" "no \"$word\" in: $(why)"; fi
}
same() { # name, expected, found
    if [ "$2" = "$3" ]; then ok "$1"; else fail "$1" "expected $2, found $3"; fi
}

# ---- what gets compiled ----

mkdir "$s/inc" "$s/alone" "$s/stb"
sh tools/amalgamate.sh >"$s/inc/smolq.h" 2>"$s/why" || { fail "the parts join" "$(why)"; exit 1; }
sh tools/amalgamate.sh --standalone >"$s/alone/smolq.h" 2>"$s/why" || { fail "the standalone header" "$(why)"; exit 1; }
# Cross compilers don't look into /usr/include, and must not: they get a folder with stb_ds.h and nothing else.
for stb in /usr/include/stb/stb_ds.h /usr/local/include/stb/stb_ds.h /usr/include/stb_ds.h /usr/local/include/stb_ds.h; do
    [ -f "$stb" ] && cp "$stb" "$s/stb/stb_ds.h" && break
done
inc="-I$s/inc -I$root/tests -isystem $s/stb"

# Every header of C17, POSIX.1-2017, Linux's favourites, Windows; for C++ its own too.  Those that are there are included, before smolq.h.
{
    for header in aio arpa/inet assert complex cpio ctype dirent dlfcn errno fcntl fenv float fmtmsg fnmatch ftw glob grp iconv inttypes iso646 langinfo \
        libgen limits locale math monetary mqueue ndbm net/if netdb netinet/in netinet/tcp nl_types poll pthread pwd regex sched search semaphore setjmp \
        signal spawn stdalign stdarg stdbool stddef stdint stdio stdlib string strings stropts sys/ipc sys/mman sys/msg sys/resource sys/select \
        sys/sem sys/shm sys/socket sys/stat sys/statvfs sys/time sys/times sys/types sys/uio sys/un sys/utsname sys/wait syslog tar termios \
        time trace uchar ulimit unistd utime utmpx wchar wctype wordexp sys/sysmacros sys/param sys/ioctl sys/epoll malloc alloca endian byteswap curses \
        winsock2 windows io process direct conio objbase shellapi immintrin; do
        printf '#if __has_include(<%s.h>)\n#include <%s.h>\n#endif\n' $header $header
    done
    echo '#ifdef __cplusplus'
    for header in algorithm array atomic bitset chrono codecvt complex condition_variable deque exception filesystem forward_list fstream functional future \
        initializer_list iomanip ios iosfwd iostream istream iterator limits list locale map memory mutex new numeric optional ostream queue random ratio \
        regex set sstream stack stdexcept streambuf string string_view system_error thread tuple type_traits typeindex typeinfo unordered_map \
        unordered_set utility valarray variant vector; do
        printf '#if __has_include(<%s>)\n#include <%s>\n#endif\n' $header $header
    done
    echo '#else' # these C++ has in its own way
    for header in stdatomic tgmath threads stdnoreturn; do
        printf '#if __has_include(<%s.h>)\n#include <%s.h>\n#endif\n' $header $header
    done
    echo '#endif'
} >"$s/headers.h"

printf '#define SMOLQ_IMPLEMENTATION\n#include "smolq.h"\n' >"$s/none.c"
{ printf '#include "headers.h"\n'; cat "$s/none.c"; } >"$s/std.c"
{ printf '#define _GNU_SOURCE 1\n#include "headers.h"\n'; cat "$s/none.c"; } >"$s/gnu.c"

as() { case $1 in c++*) echo "-x c++ -std=$1";; *) echo "-x c -std=$1";; esac; }

# ---- warnings: compiler x language x (headers before, NDEBUG, standalone) ----

n=0 left=0
for cc in gcc clang; do
    for std in c99 c11 c17 c++17; do
        case $cc in # some warnings of gcc need the optimizer, which takes its time, none of clang does
            gcc) optimize=-O1; [ -z "$long" ] && [ $(((seed + n) % 4)) -ne 0 ] || optimize=-O2;;
            *) optimize=-O0;;
        esac
        case $std in c++*) front=$(echo $cc | sed -e 's/gcc/g++/' -e 's/clang/clang++/');; *) front=$cc;; esac
        have $front || { skip "$cc $std without a warning" "no $front"; continue; }
        turn=$(((seed + n) % 12)) k=0
        n=$((n + 5))
        for kind in inc alone; do for ndebug in '' -DNDEBUG; do for before in none std gnu; do
            what="$front $std, $kind, headers before: $before ${ndebug}"
            if [ -n "$long" ] || [ $k -eq $turn ]; then
                try "compiles without a warning: $what" $front $(as $std) $optimize $strict $ndebug -I"$s/$kind" -I"$s" -c "$s/$before.c" -o "$s/x.o"
            elif [ $before != none ] && { [ $k -eq $(((turn + 5) % 12)) ] || [ $k -eq $(((turn + 7) % 12)) ]; }; then
                try "parses without a warning: $what" $front $(as $std) -fsyntax-only $strict $ndebug -I"$s/$kind" -I"$s" "$s/$before.c"
            else
                left=$((left + 1))
            fi
            k=$((k + 1))
        done; done; done
    done
done
[ $left -eq 0 ] || echo "left out: $left of 96 native combinations (SMOLQ_LONG=1 compiles all)"

# ---- zones ----

echo 'smolq_gguf *g; int f(void); int f(void) { return (int)sizeof(smolq_info) + SMOLQ_OK; }' >"$s/a.txt"
echo 'smolq_run r; int f(void); int f(void) { return (int)sizeof(smolq_block_q4_k) + (int)smolq_exp(0.0f); }' >"$s/b.txt"
echo 'smolq__heap h;' >"$s/c.txt"
{ echo '#include "smolq.h"'; cat "$s/a.txt"; } >"$s/za.c"
{ echo '#include "smolq.h"'; cat "$s/b.txt"; } >"$s/zab.c"
{ printf '#include "smolq.h"\n#define SMOLQ_BACKEND\n#include "smolq.h"\n#include "smolq.h"\n'; cat "$s/b.txt"; } >"$s/zb.c"
{ printf '#define SMOLQ_BACKEND\n#include "smolq.h"\n'; cat "$s/c.txt"; } >"$s/zbc.c"
{ printf '#include "smolq.h"\n#define SMOLQ_BACKEND\n#include "smolq.h"\n#define SMOLQ_IMPLEMENTATION\n#include "smolq.h"\n#include "smolq.h"\n'; cat "$s/c.txt"; } >"$s/zc.c"
for cc in gcc clang; do
    have $cc || { skip "zones with $cc" "not installed"; continue; }
    for std in c99 c17 c2x c++11 c++14 c++20; do
        echo 'int main(){}' | $cc $(as $std) -fsyntax-only - >/dev/null 2>&1 || { skip "zones as $std" "$cc does not know it"; continue; }
        try "zone A is valid: $cc $std" $cc $(as $std) -fsyntax-only $strict $inc "$s/za.c"
        try "zones A and B are valid: $cc $std" $cc $(as $std) -fsyntax-only $strict $inc "$s/zb.c"
    done
    refuse "a plain include shows zone A alone ($cc)" smolq_run $cc -std=c99 -fsyntax-only $inc "$s/zab.c"
    refuse "SMOLQ_BACKEND does not show the implementation ($cc)" smolq__heap $cc -std=c99 -fsyntax-only $inc "$s/zbc.c"
    try "zones may be asked for one after the other ($cc)" $cc -std=c99 -fsyntax-only $strict -Wno-unused-function $inc "$s/zc.c"
    refuse "-ffast-math is refused ($cc)" "fast-math" $cc -std=c99 -ffast-math -fsyntax-only $inc "$s/none.c"
    refuse "-ffinite-math-only is refused ($cc)" "fast-math" $cc -std=c99 -ffinite-math-only -fsyntax-only $inc "$s/none.c"
    try "SMOLQ_ALLOW_FAST_MATH allows it ($cc)" $cc -std=c99 -ffast-math -DSMOLQ_ALLOW_FAST_MATH -fsyntax-only $inc "$s/none.c"
done

# No macro of ours without our prefix: those that smolq.h adds to its system headers.
if have gcc; then
    for kind in inc alone; do
        { echo '#include <assert.h>'; grep -hoE '^# *include *<[a-z/]*\.h>' "$s/$kind/smolq.h"; } | grep -v -e windows -e intrin -e '<io' | sort -u >"$s/system.c"
        gcc -std=c99 -dM -E "$s/system.c" | awk '{ sub(/\(.*/, "", $2); print $2 }' | sort >"$s/before"
        gcc -std=c99 -dM -E -I"$s/$kind" "$s/none.c" | awk '{ sub(/\(.*/, "", $2); print $2 }' | sort >"$s/after"
        foreign=$(comm -13 "$s/before" "$s/after" | grep -v -E '^(SMOLQ|smolq)_')
        [ $kind = inc ] && foreign=$(echo "$foreign" | grep -v -i -E '^(stbds_|stb_ds_|INCLUDE_STB_DS)')
        same "every macro has the prefix ($kind)" "" "$foreign"
    done
fi

# ---- linking ----

public=$(sed -n 's/^SMOLQ_API .*[ *]\(smolq_[a-z0-9_]*\)(.*/\1/p' src/api.h | grep -v -x -e smolq_backend_cpu -e smolq_backend_cuda | sort)
cc=${CC-cc}
$cc -O2 $inc tests/portable.c -o "$s/native" -lm 2>"$s/why" || { fail "tests/portable.c compiles" "$(why)"; exit 1; }
models=$model
for name in llama-spm.Q4_K_M llama3.f16 qwen2-odd.Q4_K_M qwen3moe.MXFP4_MOE smollm3.TQ2_0 smollm3.IQ4_XS; do
    [ -f "$shared/golden/logits/$name.gguf" ] && models="$models $shared/golden/logits/$name.gguf"
done
[ -n "$long" ] && [ -d "$shared/golden/logits" ] && models="$model $(echo "$shared"/golden/logits/*.gguf)"
"$s/native" $models >"$s/native.hash" 2>&1 || { fail "tests/portable.c runs" "$(tail -n 1 "$s/native.hash")"; exit 1; }
same "the plain native build is exact" "" "$(grep -v 'exact=yes' "$s/native.hash")"
head -n 1 "$s/native.hash" >"$s/bundled.hash"
hashes() { # name, command: prints the hashes of the native build
    name=$1
    shift
    "$@" $models >"$s/out" 2>"$s/why" </dev/null
    tr -d '\r' <"$s/out" >"$s/hash"
    if cmp -s "$s/hash" "$s/native.hash"; then ok "$name"
    else fail "$name" "expected $(diff "$s/native.hash" "$s/hash" | grep '^<' | head -n 1), found $(diff "$s/native.hash" "$s/hash" | grep '^>' | head -n 1) $(tail -n 1 "$s/why")"; fi
}

[ $((seed % 2)) -eq 0 ] && compilers='gcc clang++ clang' || compilers='clang g++ gcc' # the last one for its symbols alone
[ -n "$long" ] && compilers='gcc clang g++ clang++'
for cc in $compilers; do
    have $cc || { skip "linking with $cc" "not installed"; continue; }
    case $cc in *++) std='-x c++ -std=c++17';; *) std='-std=c99';; esac
    $cc $std -O2 -fPIC $inc -c "$s/none.c" -o "$s/lib.o" 2>"$s/why" || { fail "linking with $cc" "$(why)"; continue; }
    same "$cc: the object file shows the public names and no other" "$public" "$(nm -g --defined-only "$s/lib.o" | awk '{ print $NF }' | sort)"
    same "$cc: nothing that can be written, but one thread-local pointer" ".tbss" \
        "$(size -A "$s/lib.o" | awk '$2 > 0 && (/^\.(data|bss|tdata|tbss)/) && !/^\.data\.rel\.ro/ { print $1 ($1 ~ /^\.t/ && $2 > 8 ? " of " $2 : "") }')"
    [ -n "$long" ] || [ $cc != "${compilers##* }" ] || continue
    $cc $std -O1 $strict $inc -DLINKED -DCOMPANION_LINKED -c tests/portable.c -o "$s/app.o" 2>"$s/why" && $cc $std -O1 $strict $inc -c tests/companion.c -o "$s/companion.o" 2>>"$s/why" &&
        $cc "$s/app.o" "$s/companion.o" "$s/lib.o" -o "$s/app" -lm 2>>"$s/why"
    same "$cc: an application, a companion and the library link" "" "$(cat "$s/why")"
    hashes "$cc: they compute the native bits" "$s/app"

    # The interface is C's: a C application uses the library that a C++ compiler made.
    [ $cc != ${cc%++} ] && try "a C application links to the library that $cc made" ${CC-cc} $inc -DLINKED tests/portable.c "$s/lib.o" -o "$s/app" -lm
    case $cc in *++) continue;; esac

    $cc $std -O1 -fPIC -shared -fvisibility=hidden -DSMOLQ_DLL_EXPORT $inc "$s/none.c" -o "$s/lib.so" -lm 2>"$s/why"
    same "$cc: the shared library exports the public names and no other" "$public" "$(nm -D --defined-only "$s/lib.so" | awk '{ print $NF }' | sort)"

    # Two copies in one program: both static, or one with another prefix.
    echo 'int first(int, char **); int second(int, char **); int main(int n, char **v) { return first(n, v) || second(n, v); }' >"$s/two.c"
    for way in -DSMOLQ_STATIC -DSMOLQ_PREFIX=foo_; do
        other=$way
        [ $way = -DSMOLQ_PREFIX=foo_ ] && way=
        if $cc $std -O0 $strict $inc $way -DMAIN=first -c tests/portable.c -o "$s/1.o" 2>"$s/why" && $cc $std -O1 $strict $inc $other -DMAIN=second -c tests/portable.c -o "$s/2.o" 2>"$s/why" &&
            $cc "$s/two.c" "$s/1.o" "$s/2.o" -o "$s/two" -lm 2>"$s/why"; then
            same "$cc: two copies work in one program ($other)" "$(cat "$s/bundled.hash" "$s/bundled.hash")" "$("$s/two" $model)"
            same "$cc: $other shows" "$([ -n "$way" ] && echo second || { echo second; echo "$public" | sed 's/^/foo_/'; } | sort)" "$(nm -g --defined-only "$s/2.o" | awk '{ print $NF }' | sort)"
        else fail "$cc: two copies work in one program ($other)" "$(why)"; fi
    done
done

# ---- other optimizers, same bits ----

n=$((seed % 4)) k=0
for flags in 'gcc -O3 -march=native' 'clang -O3 -march=native' 'clang -O2 -march=native -ffp-contract=fast' 'gcc -O2 -march=native -ffp-contract=fast' 'gcc -O0' 'clang -O1 -m64' 'gcc -Os' 'g++ -O2 -x c++'; do
    have ${flags%% *} || { skip "the native bits with $flags" "not installed"; continue; }
    if [ -n "$long" ] || [ $((k % 4)) -eq $n ]; then
        $flags $inc tests/portable.c -o "$s/app" -lm 2>"$s/why" || { fail "the native bits with $flags" "$(why)"; continue; }
        hashes "the native bits with $flags" "$s/app"
    fi
    k=$((k + 1))
done

# ---- optimizers that change the bits say so: where they are allowed, and where no macro tells ----

for flags in 'gcc -O2 -ffast-math -DSMOLQ_ALLOW_FAST_MATH' 'clang -O2 -funsafe-math-optimizations'; do
    have ${flags%% *} || { skip "exact=no with $flags" "not installed"; continue; }
    if $flags $inc tests/portable.c -o "$s/app" -lm 2>"$s/why" && "$s/app" examples/models/*.gguf >"$s/why" 2>&1 && grep -q 'exact=no' "$s/why"; then ok "exact=no with $flags"
    else fail "exact=no with $flags" "$(why)"; fi
done

# ---- unity builds: the implementation in the middle, the companion after or before it, everything included first ----

user='static int user_min(int a, int b) { return a < b ? a : b; }'
after='int user_after(void); int user_after(void) { return user_min(1, 2); }'
printf '#include "headers.h"\n%s\n#define COMPANION\n#include "portable.c"\n%s\n' "$user" "$after" >"$s/unity1.c"
printf '#include "smolq.h"\n%s\n#include "companion.c"\n#define COMPANION\n#include "portable.c"\n%s\n' "$user" "$after" >"$s/unity2.c"
printf '#define _GNU_SOURCE 1\n#include "headers.h"\n%s\n#define WITH_CPU\n#include "portable.c"\n#include "smolq_cpu.c"\n%s\n' "$user" "$after" >"$s/unity3.c"
[ -n "$long" ] && less= || less=-DSMOLQ_CPU_NO_AVX512
n=$((seed % 4)) k=0
for cc in gcc g++ clang++ clang; do
    have $cc || { skip "unity build with $cc" "not installed"; continue; }
    case $cc in *++) std='-x c++ -std=c++17';; *) std='-std=c99';; esac
    for order in 1 2; do
        k=$((k + 1)) # 1 to 8
        [ -n "$long" ] || [ $((k % 4)) -eq $n ] || continue
        if $cc $std -O1 $strict $inc -I"$s" "$s/unity$order.c" -o "$s/app" -lm 2>"$s/why"; then hashes "unity build $order with $cc" "$s/app"
        else fail "unity build $order with $cc" "$(why)"; fi
    done
    if [ -f smolq_cpu.c ] && { [ -n "$long" ] || [ $((k / 2 % 4)) -eq $n ]; }; then
        if $cc $std -O1 $less $inc -I"$s" -I"$root" "$s/unity3.c" -o "$s/app" -lm -lpthread 2>"$s/why"; then hashes "unity build with smolq_cpu.c and $cc" "$s/app"
        else fail "unity build with smolq_cpu.c and $cc" "$(why)"; fi
    fi
done

# ---- other machines ----

units() { # machine, how to run, which tests (a part of their names; all with SMOLQ_LONG=1), compiler and flags: the unit tests there
    machine=$1 run=$2 some=$3
    [ -z "$long" ] || some=
    shift 3
    for unit in test_quant ${long:+test_gguf test_tokenizer test_sample test_bits}; do
        [ -f tests/$unit.c ] || continue
        case $unit$run in test_bitsqemu* | test_tokenizerqemu*) skip "$unit on $machine" "it takes half an hour, or measures time, which means nothing in an emulator"; continue;; esac
        if ! "$@" -std=gnu99 $inc tests/$unit.c -o "$s/unit.exe" -lm >"$s/why" 2>&1; then skip "$unit on $machine" "$(why | sed "s|$s/||g")"; continue; fi
        $run "$s/unit.exe" $some >"$s/out" 2>"$s/why" </dev/null
        same "$unit on $machine" "0, 0 failed" "$?, $(grep -c '^FAIL' "$s/out") failed$(tr -d '\r' <"$s/out" | grep -m 1 '^FAIL' | sed 's/^/: /')"
    done
}
strictly() { # machine, C compiler, flags: no warning as C99 and, if there is one, as C++17; leaves tests/portable.c in c99.o
    machine=$1 cc=$2
    shift 2
    for std in c99 c++17; do
        case $std in c99) front=$cc;; *) front=$(echo $cc | sed 's/gcc$/g++/');; esac
        have $front || { skip "$machine as $std" "no $front"; continue; }
        if ! echo '#include <stdlib.h>' | $front $(as $std) -fsyntax-only - >/dev/null 2>&1; then skip "$machine as $std" "$front has no standard library"; continue; fi
        if [ $std = c99 ] || [ -n "$long" ]; then
            try "$machine: compiles without a warning as $std" $front $(as $std) "$@" -O2 $strict $inc -c tests/portable.c -o "$s/$std.o"
        fi
        for before in std gnu; do
            try "$machine: parses without a warning as $std, headers before: $before" $front $(as $std) "$@" -fsyntax-only $strict $inc -I"$s" "$s/$before.c"
        done
    done
    try "$machine: the standalone header" $cc "$@" -std=c99 -fsyntax-only $strict -I"$s/alone" "$s/none.c"
}

machine='32-bit x86' cc=i686-linux-gnu-gcc sse='-msse2 -mfpmath=sse'
if have $cc; then
    strictly "$machine" $cc $sse
    try "$machine: 64-bit off_t without a warning" $cc -std=c99 $sse -D_FILE_OFFSET_BITS=64 -fsyntax-only $strict $inc "$s/none.c"
    if try "$machine: links" $cc -static "$s/c99.o" -o "$s/app32" -lm; then
        run=
        "$s/app32" >/dev/null 2>&1 || run=qemu-i386-static
        hashes "$machine: the native bits" $run "$s/app32"
        units "$machine" "$run" '' $cc -static -O1 $sse
        # The x87 rounds twice.  It works, and says that its bits are not the canonical ones.
        $cc -static -O1 -mno-sse -mfpmath=387 $inc tests/portable.c -o "$s/app32" -lm 2>"$s/why" || fail "$machine, x87: links" "$(why)"
        same "$machine, x87: works and says so" "exact=no" "$($run "$s/app32" $model 2>&1 | awk '{ print $2 }')"
    fi
else skip "$machine" "no $cc (Debian: gcc-i686-linux-gnu libc6-dev-i386-cross)"; fi

machine=ARM cc=aarch64-linux-gnu-gcc
if have $cc; then
    strictly $machine $cc
    if try "$machine: links" $cc -static "$s/c99.o" -o "$s/arm" -lm; then
        if have qemu-aarch64-static; then
            hashes "$machine: the native bits" qemu-aarch64-static "$s/arm"
            units $machine qemu-aarch64-static quant: $cc -static -O1 # the millions of sums of the others take half a minute in the emulator
        else skip "$machine: the native bits" "no qemu-aarch64-static (Debian: qemu-user-static)"; fi
    fi
else skip $machine "no $cc (Debian: gcc-aarch64-linux-gnu)"; fi

machine=Windows cc=x86_64-w64-mingw32-gcc
if have $cc; then
    strictly $machine $cc
    try "$machine: links" $cc "$s/c99.o" -o "$s/app.exe"
    try "$machine: a DLL" $cc -O1 -shared -static-libgcc -DSMOLQ_DLL_EXPORT $inc "$s/none.c" -o "$s/smolq.dll" -Wl,--out-implib,"$s/libsmolq.a"
    same "$machine: the DLL exports the public names and no other" "$public" \
        "$(${cc%gcc}objdump -p "$s/smolq.dll" | sed -n '/Ordinal\/Name Pointer/,/^$/p' | sed -n 's/^.*\] *\(.* \)\{0,1\}\([a-z_0-9]*\)$/\2/p' | sort)"
    try "$machine: a program that uses the DLL" $cc -O1 -DLINKED -DSMOLQ_DLL_IMPORT $inc tests/portable.c "$s/libsmolq.a" -o "$s/uses.exe"
    echo 'int main(void) { return 42; }' >"$s/42.c"
    $cc "$s/42.c" -o "$s/42.exe"
    if ! have wine; then skip "$machine: runs" "no wine (Debian: wine wine64)"
    elif timeout 120 wine "$s/42.exe" >/dev/null 2>&1; [ $? -ne 42 ]; then skip "$machine: runs" "wine does not run a program here"
    else
        hashes "$machine: the native bits" wine "$s/app.exe"
        hashes "$machine: the native bits through the DLL" wine "$s/uses.exe"
        units $machine wine '' $cc -O1
    fi
else skip $machine "no $cc (Debian: gcc-mingw-w64-x86-64)"; fi

# ---- threads ----

for cc in clang gcc; do
    name="eight threads without a race (ThreadSanitizer, $cc)"
    if ! echo 'int main(void) { return 0; }' | $cc -x c -fsanitize=thread - -o "$s/tsan" >/dev/null 2>&1; then skip "$name" "$cc has no ThreadSanitizer"; continue; fi
    run=
    "$s/tsan" >/dev/null 2>&1 || run='setarch -R' # old runtimes stumble over the address layout of new kernels
    $run "$s/tsan" >/dev/null 2>&1 || { skip "$name" "ThreadSanitizer does not run here"; continue; }
    $cc -std=gnu99 -O2 -g -fsanitize=thread $inc -I"$root" tests/test_threads.c -o "$s/tsan" -lm -lpthread 2>"$s/why" || { fail "$name" "$(why)"; continue; }
    if TSAN_OPTIONS="halt_on_error=0 exitcode=66" $run "$s/tsan" >"$s/out" 2>&1; then ok "$name"
    else fail "$name" "$(grep -m 2 -E '^FAIL|WARNING: ThreadSanitizer|#0' "$s/out")"; fi
    [ -n "$long" ] || break
done
exit $failed
