#!/bin/sh
# tests/run.sh [DIRECTORY [NAME...]]: runs the test programs in DIRECTORY (build/tests), one for each tests/test_*.c, and the scripts tests/test_*.sh.
#
# Each prints "ok   NAME", "FAIL NAME: why" and "skip NAME: why"; a program that is not there (it does not compile), crashes, hangs or fails without
# saying so counts as a failure too.  Failures and skips are shown, all output is kept beside the programs, and the last line is the count.
set -u
cd "$(dirname "$0")/.." || exit 1
dir=${1-build/tests}
[ $# -gt 0 ] && shift
passed=0 failed=0 skipped=0
mkdir -p "$dir"
begun=$(date +%s)

if [ $# -gt 0 ]; then names=$*
else
    names=$(ls tests/test_*.c 2>/dev/null | sed -e 's|.*/||' -e 's|\.c$||')
    [ "$dir" = build/tests ] && names="$names $(ls tests/test_*.sh 2>/dev/null | sed 's|.*/||')" # scripts do not depend on how the programs were built
fi
limit=
command -v timeout >/dev/null 2>&1 && limit="timeout ${SMOLQ_TEST_SECONDS-$([ -n "${SMOLQ_LONG-}" ] && echo 7200 || echo 900)}"

for name in $names; do
    log=$dir/$name.log
    start=$(date +%s)
    case $name in
        *.sh) $limit sh "tests/$name" >"$log" 2>&1 ;;
        *) if [ -x "$dir/$name" ]; then $limit "$dir/$name" >"$log" 2>&1; else echo "FAIL $name: does not compile" >"$log"; fi ;;
    esac
    status=$?
    p=$(grep -a -c '^ok ' "$log") f=$(grep -a -c '^FAIL ' "$log") s=$(grep -a -c '^skip ' "$log")
    if [ $status -ge 124 ] || { [ $status -ne 0 ] && [ "$f" -eq 0 ]; }; then
        case $status in 124) why="took too long";; 1??) why="crashed, status $status";; *) why="status $status";; esac
        tail -n 20 "$log"
        echo "FAIL $name: $why"
        f=$((f + 1))
    elif [ $((p + f + s)) -eq 0 ]; then
        echo "FAIL $name: ran no test"
        f=1
    fi
    grep -a -E '^(FAIL|skip) ' "$log"
    echo "$name: $p passed, $f failed, $s skipped, $(($(date +%s) - start)) s"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
echo "$(($(date +%s) - begun)) s in all"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
