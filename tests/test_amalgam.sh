#!/bin/sh
# smolq.h is what its parts say, each part stands on its own, and the object file shows nothing but smolq_.
set -u
cd "$(dirname "$0")/.." || exit 1
cc=${CC-cc}
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
failed=0
ok() { echo "ok   $1"; }
fail() { echo "FAIL $1: $2"; failed=1; }
skip() { echo "skip $1: $2"; }

# In a checkout whose parts are as committed, the committed header counts: make may have written the one in the working tree a moment ago.
sh tools/amalgamate.sh >"$scratch/a.h" 2>"$scratch/why" || fail "the parts join" "$(tail -n 1 "$scratch/why")"
header=smolq.h
if git rev-parse HEAD >/dev/null 2>&1 && [ -z "$(git status --porcelain src tools/amalgamate.sh 2>/dev/null)" ]; then
    git show HEAD:smolq.h >"$scratch/committed.h" 2>/dev/null && header=$scratch/committed.h
fi
if cmp -s "$scratch/a.h" "$header"; then ok "smolq.h is current"
else fail "smolq.h is current" "$(cmp "$scratch/a.h" "$header" 2>&1 | sed 's/.*: //'); run make smolq.h"; fi

(cd / && env -i PATH="$PATH" LC_ALL=C sh "$OLDPWD/tools/amalgamate.sh") >"$scratch/b.h" 2>/dev/null
if cmp -s "$scratch/a.h" "$scratch/b.h"; then ok "the header is the same from another folder and environment"
else fail "the header is the same from another folder and environment" "$(cmp "$scratch/a.h" "$scratch/b.h" 2>&1)"; fi

for part in src/*.h src/*.c; do
    if echo "#include \"$part\"" | $cc -x c -std=c99 -fsyntax-only -w -I. - 2>"$scratch/why"; then ok "$part compiles alone"
    else fail "$part compiles alone" "$(grep -m 1 error "$scratch/why")"; fi
done

printf '#define SMOLQ_IMPLEMENTATION\n#include "smolq.h"\n' >"$scratch/lib.c"
printf '#include "smolq.h"\nint main(void) { return smolq_version()[0] != 48; }\n' >"$scratch/app.c"
if $cc -O0 -I. -c "$scratch/lib.c" -o "$scratch/lib.o" 2>"$scratch/why"; then
    foreign=$(nm -g --defined-only "$scratch/lib.o" | awk '{ print $NF }' | grep -v '^_*smolq_' | head -n 5 | tr '\n' ' ')
    if [ -z "$foreign" ]; then ok "only smolq_ leaves the object file"; else fail "only smolq_ leaves the object file" "$foreign"; fi
    $cc -O0 -fno-pic -fno-pie -I. -c "$scratch/lib.c" -o "$scratch/fixed.o" # tables of pointers are constant there
    data=$(nm "$scratch/fixed.o" | awk '$2 ~ /^[bBdDC]$/ { print $3 }')
    data=$(for name in $data; do case $name in *stbds_hash_seed*|smolq__loading*) ;; *) printf '%s ' "$name";; esac; done)
    if [ -z "$data" ]; then ok "no global state but the pointer of the load that runs"; else fail "no global state but the pointer of the load that runs" "$data"; fi
    if $cc -I. "$scratch/app.c" "$scratch/lib.o" -o "$scratch/app" -lm 2>"$scratch/why" && "$scratch/app"; then ok "two files that include the header link"
    else fail "two files that include the header link" "$(tail -n 1 "$scratch/why")"; fi
    printf '#define SMOLQ_PREFIX other_\n#define SMOLQ_IMPLEMENTATION\n#include "smolq.h"\n' >"$scratch/other.c"
    if $cc -O0 -I. -c "$scratch/other.c" -o "$scratch/other.o" 2>"$scratch/why" && $cc -I. "$scratch/app.c" "$scratch/lib.o" "$scratch/other.o" -o "$scratch/app" -lm 2>"$scratch/why"; then
        ok "two copies link when one has a prefix"
    else fail "two copies link when one has a prefix" "$(grep -m 1 -E 'multiple|error' "$scratch/why")"; fi
else
    fail "smolq.h compiles" "$(grep -m 1 error "$scratch/why")"
fi

if grep -q -e --standalone tools/amalgamate.sh; then
    if sh tools/amalgamate.sh --standalone >"$scratch/standalone.h"; then
        for order in 'smolq stb' 'stb smolq'; do
            for part in $order; do
                case $part in
                    smolq) printf '#define SMOLQ_IMPLEMENTATION\n#include "%s"\n' "$scratch/standalone.h" ;;
                    stb) printf '#define STB_DS_IMPLEMENTATION\n#if __has_include("stb_ds.h")\n#include "stb_ds.h"\n#else\n#include <stb/stb_ds.h>\n#endif\n' ;;
                esac
            done >"$scratch/both.c"
            echo 'int main(void) { int *a = 0; arrput(a, 1); return a[0] != 1; }' >>"$scratch/both.c"
            if $cc "$scratch/both.c" -o "$scratch/both" -lm 2>"$scratch/why" && "$scratch/both"; then ok "the standalone header lives with stb_ds, order: $order"
            else fail "the standalone header lives with stb_ds, order: $order" "$(grep -m 1 error "$scratch/why")"; fi
        done
    else fail "the standalone header" "tools/amalgamate.sh --standalone failed"; fi
else
    skip "the standalone header" "tools/amalgamate.sh has no --standalone"
fi
exit $failed
