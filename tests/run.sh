#!/bin/sh
# tests/run.sh [DIRECTORY [NAME...]]: runs the test programs in DIRECTORY (build/tests), one for each tests/test_*.c and .cpp, and the scripts tests/test_*.sh.
#
# Each prints "ok   NAME", "FAIL NAME: why" and "skip NAME: why"; a program that is not there (it does not compile), crashes, hangs or fails without
# saying so counts as a failure too.  Failures and skips are shown, all output is kept beside the programs, and the last line is the count.
#
# As many run at once as there are processors, at most SMOLQ_TEST_JOBS (4): none of them measures time.
set -u
cd "$(dirname "$0")/.." || exit 1

# tests/run.sh --one DIRECTORY NAME: one of them.  What it has to say comes out in one piece; its counts go to DIRECTORY/NAME.counts.
if [ "${1-}" = --one ]; then
    dir=$2 name=$3
    log=$dir/$name.log
    limit=
    command -v timeout >/dev/null 2>&1 && limit="timeout ${SMOLQ_TEST_SECONDS-$([ -n "${SMOLQ_LONG-}" ] && echo 7200 || echo 900)}"
    start=$(date +%s)
    case $name in
        *.sh) $limit sh "tests/$name" >"$log" 2>&1 ;;
        *) if [ -x "$dir/$name" ]; then $limit "$dir/$name" >"$log" 2>&1; else echo "FAIL $name: does not compile" >"$log"; fi ;;
    esac
    status=$?
    p=$(grep -a -c '^ok ' "$log") f=$(grep -a -c '^FAIL ' "$log") s=$(grep -a -c '^skip ' "$log")
    said=$(grep -a -E '^(FAIL|skip) ' "$log")
    if [ $status -ge 124 ] || { [ $status -ne 0 ] && [ "$f" -eq 0 ]; }; then
        case $status in 124) why="took too long";; 1??) why="crashed, status $status";; *) why="status $status";; esac
        said="$(tail -n 20 "$log")
FAIL $name: $why"
        f=$((f + 1))
    elif [ $((p + f + s)) -eq 0 ]; then
        said="FAIL $name: ran no test"
        f=1
    fi
    echo "$p $f $s" >"$dir/$name.counts"
    echo "${said:+$said
}$name: $p passed, $f failed, $s skipped, $(($(date +%s) - start)) s"
    exit 0
fi

dir=${1-build/tests}
[ $# -gt 0 ] && shift
mkdir -p "$dir"
begun=$(date +%s)
if [ $# -gt 0 ]; then names=$*
else
    names=
    [ "$dir" = build/tests ] && names=$(ls tests/test_*.sh 2>/dev/null | sed 's|.*/||') # do not depend on how the programs were built; they take longest
    names="$names $(ls tests/test_*.c tests/test_*.cpp 2>/dev/null | sed -e 's|.*/||' -e 's|\.c$||' -e 's|\.cpp$||')"
fi
jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
most=${SMOLQ_TEST_JOBS-4}
[ "$jobs" -lt "$most" ] || jobs=$most

for name in $names; do
    rm -f "$dir/$name.counts"
    echo "$name"
done | xargs -P "$jobs" -n 1 sh tests/run.sh --one "$dir"

passed=0 failed=0 skipped=0
for name in $names; do
    counts='0 1 0' # it was killed before it could count
    [ -f "$dir/$name.counts" ] && counts=$(cat "$dir/$name.counts")
    set -- $counts
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
done
echo "$(($(date +%s) - begun)) s in all"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
