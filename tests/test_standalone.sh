#!/bin/sh
# The standalone header carries stb_ds inside under other names: it lives with the host's own stb_ds.h in one file, in either order, with or without its
# implementation and its short names, as C and as C++, and both work.  The plain header says clearly that it does not.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
long=${SMOLQ_LONG-}
seed=${SMOLQ_SEED-$(date +%s)}
model=examples/models/smolq-tales.Q4_K_M.gguf
failed=0
s=$(mktemp -d) || exit 1
trap 'rm -rf "$s"' EXIT
echo "seed $seed"
ok() { echo "ok   $1"; }
fail() { echo "FAIL $1: $(echo "$2" | head -c 300 | tr '\n' ' ')"; failed=1; }
skip() { echo "skip $1: $2"; }
have() { command -v "$1" >/dev/null 2>&1; }
why() { grep -m 1 -E 'error|warning|multiple definition|undefined' "$s/why" || tail -n 1 "$s/why"; }

mkdir "$s/inc" "$s/alone" "$s/stb"
sh tools/amalgamate.sh --standalone >"$s/alone/smolq.h" 2>"$s/why" || { fail "tools/amalgamate.sh --standalone" "$(why)"; exit 1; }
sh tools/amalgamate.sh >"$s/inc/smolq.h" || exit 1
for stb in /usr/include/stb/stb_ds.h /usr/local/include/stb/stb_ds.h /usr/include/stb_ds.h /usr/local/include/stb_ds.h; do
    [ -f "$stb" ] && cp "$stb" "$s/stb/stb_ds.h" && break
done
if [ ! -f "$s/stb/stb_ds.h" ]; then skip "the standalone header beside stb_ds.h" "stb_ds.h is not in a usual place"; exit 0; fi

(cd / && env -i PATH="$PATH" TZ=Asia/Tokyo sh "$root/tools/amalgamate.sh" --standalone) >"$s/again.h" 2>/dev/null
if cmp -s "$s/alone/smolq.h" "$s/again.h"; then ok "it is the same from another folder and environment"; else fail "it is the same from another folder and environment" "$(cmp "$s/alone/smolq.h" "$s/again.h")"; fi
if grep -q 'Copyright (c) .* Sean Barrett' "$s/alone/smolq.h"; then ok "it keeps the licence of stb_ds"; else fail "it keeps the licence of stb_ds" "no copyright line"; fi
names=$(grep -n -E '(^|[^_])(stbds_|STBDS_|STB_DS_IMPL|INCLUDE_STB)' "$s/alone/smolq.h" | head -n 1)
if [ -z "$names" ]; then ok "no name of stb_ds is left in it"; else fail "no name of stb_ds is left in it" "$names"; fi

# The host's program: its arrays and maps work before, around and after a model that runs.
cat >"$s/host.c" <<'T'
static int host_check(void)
{
    int i, sum = 0, *a = NULL;
    struct { int key, value; } *map = NULL;
    for (i = 0; i < 1000; i++) stbds_arrput(a, i);
    for (i = 0; i < 1000; i++) { int k = i * 7; stbds_hmput(map, k, a[i]); }
    for (i = 0; i < 1000; i++) { int k = i * 7; sum += stbds_hmget(map, k); }
#ifndef STBDS_NO_SHORT_NAMES
    arrput(a, 5);
    if (arrlen(a) != 1001 || arrpop(a) != 5) return 0;
#endif
    stbds_arrfree(a);
    stbds_hmfree(map);
    return sum == 499500;
}
int main(int argc, char **argv) { return !host_check() || model_main(argc, argv) || !host_check(); }
T
printf '#define STB_DS_IMPLEMENTATION\n#include "stb_ds.h"\n' >"$s/stb.c"
cc=${CC-cc}
"$cc" -O1 -I"$s/alone" tests/portable.c -o "$s/native" -lm 2>"$s/why" || { fail "the standalone header needs no stb_ds.h" "$(why)"; exit 1; }
expected=$("$s/native" $model)

n=$((seed % 4)) # each compiler and order tries one of four ways, together they try all
for cc in gcc clang g++ clang++; do
    have $cc || { skip "in one file with the host's stb_ds.h, $cc" "not installed"; continue; }
    case $cc in *++) lang='-x c++ -std=c++17';; *) lang='-std=gnu99';; esac
    $cc $lang -c "$s/stb.c" -I"$s/stb" -o "$s/stb.o" 2>"$s/why" || { fail "$cc compiles stb_ds.h" "$(why)"; continue; }
    for order in before after; do
        turn=0 n=$(((n + 1) % 4))
        for implementation in here elsewhere; do for names in short long; do
            turn=$((turn + 1))
            [ -n "$long" ] || [ $turn -eq $((n + 1)) ] || continue
            stb='#include "stb_ds.h"'
            object=$s/stb.o
            [ $implementation = here ] && stb="#define STB_DS_IMPLEMENTATION
$stb" && object=
            [ $names = long ] && stb="#define STBDS_NO_SHORT_NAMES
$stb"
            {
                [ $order = before ] && echo "$stb"
                printf '#define MAIN model_main\n#include "portable.c"\n'
                [ $order = after ] && echo "$stb"
                cat "$s/host.c"
            } >"$s/both.c"
            name="$cc: stb_ds.h $order, its implementation $implementation, $names names"
            # objects first: -x c++ holds for what follows
            if $cc ${object:+"$object"} $lang -O0 -I"$s/alone" -I"$s/stb" -Itests "$s/both.c" -o "$s/both" -lm 2>"$s/why"; then
                found=$("$s/both" $model 2>&1)
                if [ $? -eq 0 ] && [ "$found" = "$expected" ]; then ok "$name"; else fail "$name" "status or output differ: $found"; fi
            else fail "$name" "$(why)"; fi
        done; done
    done
done
[ -n "$long" ] || echo "left out: 24 of 32 combinations (SMOLQ_LONG=1 runs all)"

# The plain header has but one stb_ds and says so, whichever comes first.
printf '#include "stb_ds.h"\n#define SMOLQ_IMPLEMENTATION\n#include "smolq.h"\n' >"$s/first.c"
printf '#define SMOLQ_IMPLEMENTATION\n#include "smolq.h"\n#include "stb_ds.h"\nint f(int *a); int f(int *a) { stbds_arrput(a, 1); return a[0]; }\n' >"$s/last.c"
for cc in gcc clang g++ clang++; do
    have $cc || continue
    for order in first last; do
        case $cc in *++) lang='-x c++';; *) lang=;; esac
        name="$cc: the plain header refuses a host's stb_ds, stb_ds.h $order"
        if $cc $lang -fsyntax-only -I"$s/inc" -I"$s/stb" "$s/$order.c" 2>"$s/why"; then fail "$name" "it compiled"
        elif grep -q 'standalone_*.*header' "$s/why"; then ok "$name"
        else fail "$name" "$(why)"; fi
    done
done
exit $failed
