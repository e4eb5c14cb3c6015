#!/bin/sh
# tests/test_fuzz.sh [TARGET...]: builds each tests/fuzz_TARGET.c with the sanitizers, replays its corpus and lets it run for a while.
#
# SMOLQ_FUZZ_SECONDS is the time of each target: 6, in CI (where $CI is set) 30, with SMOLQ_LONG 60.  Two run at a time.  Without clang's libFuzzer
# the C compiler builds the targets, with what sanitizers it has, and they only replay.  Prints "ok", "FAIL" and "skip" lines; what broke is kept in
# build/fuzz/TARGET-*.
set -u
cd "$(dirname "$0")/.." || exit 1
dir=build/fuzz
mkdir -p $dir
seconds=${SMOLQ_FUZZ_SECONDS-$(if [ -n "${SMOLQ_LONG-}" ]; then echo 60; elif [ -n "${CI-}" ]; then echo 30; else echo 6; fi)}
[ $# -gt 0 ] || set -- $(ls tests/fuzz_*.c | sed -e 's|.*/fuzz_||' -e 's|\.c$||')

links() { # a program with these flags
    case $* in *fuzzer*) main='int LLVMFuzzerTestOneInput(const unsigned char *p, unsigned long n)';; *) main='int main(void)';; esac
    echo "$main { return 0; }" >$dir/x.c
    "$@" $dir/x.c -o $dir/x >/dev/null 2>&1
}
sanitizers="-fsanitize=address,undefined -fno-sanitize-recover=all"
if links clang -fsanitize=fuzzer,address,undefined,float-cast-overflow; then
    fuzzer=yes
    build="clang -g -O1 -fsanitize=fuzzer,address,undefined,float-cast-overflow -fno-sanitize-recover=all"
else
    fuzzer=
    build="${CC-cc} -g -O1 -DFUZZ_REPLAY"
    links ${CC-cc} $sanitizers && build="$build $sanitizers"
fi

# Options of libFuzzer that suit a target: how long an input may be.
options() {
    case $1 in gguf) echo -max_len=8000;; vocab) echo -max_len=600;; text) echo -max_len=300;; eval|smq) echo -max_len=200;; esac
}

run() { # one target: its lines go to TARGET.out
    t=$1 log=$dir/$1.log
    if ! $build -std=gnu99 -w -I. tests/fuzz_$t.c -o $dir/$t -lm >$log 2>&1; then
        echo "FAIL fuzz $t does not compile: $(grep -m 1 error $log)"
        return
    fi
    kept=$(ls -d tests/corpus/$t 2>/dev/null)
    n=$(ls tests/corpus/$t 2>/dev/null | wc -l)
    if [ -z "$fuzzer" ]; then
        if [ -n "$kept" ] && ! $dir/$t $kept/* >$log 2>&1; then echo "FAIL fuzz $t, corpus of $n: $(grep -a -m 1 -E 'ERROR|runtime error|fuzz_' $log)"
        else echo "ok   fuzz $t: corpus of $n"; fi
        echo "skip fuzz $t for a while: no libFuzzer (clang and its runtime)"
        return
    fi
    mkdir -p $dir/found/$t
    if $dir/$t -max_total_time="$seconds" $(options $t) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix=$dir/$t- $dir/found/$t $kept >$log 2>&1; then
        echo "ok   fuzz $t: corpus of $n, then $(sed -n 's/^stat::number_of_executed_units: *//p' $log) runs in $seconds s"
    else
        echo "FAIL fuzz $t: $(grep -a -m 1 -E 'ERROR|runtime error|fuzz_' $log | head -c 300)"
    fi
}

while [ $# -gt 0 ]; do
    run "$1" >$dir/"$1".out & first=$!
    if [ $# -gt 1 ]; then
        run "$2" >$dir/"$2".out & second=$!
        wait $second
    fi
    wait $first
    cat $dir/"$1".out
    shift
    if [ $# -gt 0 ]; then
        cat $dir/"$1".out
        shift
    fi
done
