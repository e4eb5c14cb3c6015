#!/bin/sh
# Instructions per token of the bundled model, which no busy neighbour changes, against tests/counts.tsv with 3 % tolerance, counted by callgrind (it knows
# AVX2, but neither AVX-512 nor AMX).
#
#     SMOLQ_UPDATE=1 sh tests/test_counts.sh     writes the table anew, after a change that explains itself
#
# Counts hold for one compiler, so the table names it, and for -O2; with others this is skipped by name.
set -u
cd "$(dirname "$0")/.." || exit 1
table=tests/counts.tsv
model=examples/models/smolq-tales.Q4_K_M.gguf
tokens="4080 704 549 258 482 44 429 297 258 428 704 549 258 482 44 429"
compiler=$(${CC-cc} --version 2>/dev/null | head -n 1)
failed=0
kept=$(sed -n 's/^# compiler: //p' $table 2>/dev/null)
for row in "ref decode" "avx2 decode" "ref prefill" "avx2 prefill"; do
    name="instructions per token, $row"
    isa=${row% *} what=${row#* }
    command -v valgrind >/dev/null 2>&1 || { echo "skip $name: no valgrind"; continue; }
    [ -x build/logits ] || { echo "skip $name: no build/logits"; continue; }
    [ "${CFLAGS--O2}" = -O2 ] || { echo "skip $name: compiled with $CFLAGS"; continue; }
    [ "$kept" = "$compiler" ] || [ -n "${SMOLQ_UPDATE-}" ] || { echo "skip $name: the table is for $kept, this is $compiler"; continue; }
    [ "$isa" = ref ] && with="--backend ref" || with="--backend cpu --isa $isa -t 1"
    [ $what = decode ] && n=4 batch=1 || n=16 batch=64
    set --
    for many in $n $((2 * n)); do # twice the tokens: the difference is theirs alone
        ids=$(echo "$tokens $tokens" | cut -d ' ' -f "1-$many")
        count=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null build/logits -m $model --tokens "$ids" --hash --batch $batch $with 2>&1 | sed -n 's/^.*Collected : //p')
        set -- "$@" "${count:-0}"
    done
    found=$((($2 - $1) / n))
    if [ -n "${SMOLQ_UPDATE-}" ]; then
        new="${new-}$isa\\t$what\\t$found\\n"
        continue
    fi
    expected=$(awk -F '\t' -v isa=$isa -v what=$what '$1 == isa && $2 == what { print $3 }' $table)
    expected=${expected:-0}
    if [ "$found" -gt 0 ] && [ $((found * 100)) -le $((expected * 103)) ] && [ $((found * 100)) -ge $((expected * 97)) ]; then echo "ok   $name: $found"
    else echo "FAIL $name: $found, expected $expected within 3 %: better or worse, the table should say so"; failed=1; fi
done
if [ -n "${SMOLQ_UPDATE-}" ] && [ -n "${new-}" ]; then
    printf '# Instructions per token of %s: tests/test_counts.sh\n# compiler: %s\n# isa\twhat\tinstructions\n%b' "$model" "$compiler" "$new" >$table
    cat $table
    echo "skip instructions per token: written anew"
fi
exit $failed
