#!/bin/sh
# smolq_cpu.c as GCC compiles it for Windows, where the stack is aligned for its vectors only as the file sees to it: tests/test_cpu.c under wine, but without its whole
# forwards, which SMOLQ_LONG=1 adds.
set -u
cd "$(dirname "$0")/.." || exit 1
cc=x86_64-w64-mingw32-gcc
name="the CPU backend on Windows"
s=$(mktemp -d) || exit 1
WINEPREFIX=$s/wine WINEDEBUG=-all WINEDLLOVERRIDES="mscoree=;mshtml="
export WINEPREFIX WINEDEBUG WINEDLLOVERRIDES
trap 'if [ -d "$s/wine" ]; then wineserver -k 2>/dev/null; wineserver -w 2>/dev/null; fi; rm -rf "$s"' EXIT
have() { command -v "$1" >/dev/null 2>&1; }

have $cc || { echo "skip $name: no $cc (Debian: gcc-mingw-w64-x86-64)"; exit 0; }
have wine || { echo "skip $name: no wine (Debian: wine wine64)"; exit 0; }
echo 'int main(void) { return 42; }' >"$s/42.c"
$cc "$s/42.c" -o "$s/42.exe"
timeout 120 wine "$s/42.exe" >/dev/null 2>&1
[ $? -eq 42 ] || { echo "skip $name: wine does not run a program here"; exit 0; }
mkdir "$s/stb" # cross compilers don't look into /usr/include, and must not
for stb in /usr/include/stb/stb_ds.h /usr/local/include/stb/stb_ds.h /usr/include/stb_ds.h /usr/local/include/stb_ds.h; do
    [ -f "$stb" ] && cp "$stb" "$s/stb/stb_ds.h" && break
done

[ -n "${SMOLQ_LONG-}" ] && some= || some=-whole
if ! $cc -std=gnu99 -O2 -static -Wall -Wextra -Wno-unused-function -Werror -I. -isystem "$s/stb" tests/test_cpu.c -o "$s/test.exe" -lm -lpthread 2>"$s/why"; then
    echo "FAIL $name: $(grep -m 1 -E 'error|warning|undefined' "$s/why")"
    exit 1
fi
wine "$s/test.exe" $some >"$s/out" 2>"$s/why" </dev/null
status=$?
tr -d '\r' <"$s/out" | sed -n -E "s/^(ok  |FAIL|skip) (.*)/\1 Windows: \2/p"
[ $status -eq 0 ] || grep -q '^FAIL' "$s/out" || echo "FAIL $name: status $status $(tail -n 1 "$s/why")"
exit $status
