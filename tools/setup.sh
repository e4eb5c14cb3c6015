#!/bin/sh
# tools/setup.sh build|test|lint: sees to what a goal of the Makefile needs beyond a compiler and make.
#
# Each row of the table: the goal, what shows that the thing is there, the Debian packages that bring it, what it is for.  Missing ones are
# installed as root or by sudo where that asks no password; else they are named.  Only what building needs is an error then: a test that
# lacks its tool skips itself.  SMOLQ_NO_INSTALL=1 installs nothing.
set -u
goal=${1-build}

#       goal  | a command that succeeds if it is there             | Debian packages                                | what for
table="
        build | header stb_ds.h || header stb/stb_ds.h              | libstb-dev                                     | the growable tables of smolq.h
        test  | command -v clang                                    | clang                                          | the second compiler, fuzz targets
        test  | links clang -fsanitize=fuzzer,address               | clang libclang-rt-\${llvm}-dev                 | libFuzzer and the sanitizers of clang
        test  | links g++ -x c++                                    | g++                                            | smolq.h as C++
        test  | links i686-linux-gnu-g++ -x c++                     | g++-i686-linux-gnu libc6-dev-i386-cross        | the 32-bit build
        test  | links x86_64-w64-mingw32-g++ -x c++                 | g++-mingw-w64-x86-64                           | the Windows build
        test  | links aarch64-linux-gnu-g++ -x c++                  | g++-aarch64-linux-gnu libc6-dev-arm64-cross    | the ARM build
        test  | command -v qemu-aarch64-static                      | qemu-user-static                               | running the ARM build
        test  | command -v wine                             | wine wine64                                    | running the Windows build
        test  | command -v python3                                  | python3                                        | checking that JSON is JSON
        test  | header jansson.h                                    | libjansson-dev                                 | reading SMQ files of version 1
        test  | command -v valgrind                                 | valgrind                                       | counting instructions
        lint  | command -v clang-format                             | clang-format                                   | formatting
        lint  | command -v clang                                    | clang                                          | the second compiler
"

header() { echo "#include <$1>" | ${CC-cc} -E - >/dev/null 2>&1; }
links() { # a whole program with this compiler and these flags; a fuzz target brings its own main
    case $* in *fuzzer*) main='int LLVMFuzzerTestOneInput(const unsigned char *p, unsigned long n)';; *) main='int main(void)';; esac
    echo "#include <stdio.h>
$main { return puts(\"\") < 0; }" >"$scratch/x.c" && "$@" "$scratch/x.c" -o "$scratch/x" >/dev/null 2>&1
}
root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
install() { root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null >>"$scratch/log" 2>&1; }
can_install() {
    [ -z "${SMOLQ_NO_INSTALL-}" ] && command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
updated=
failed=0
while IFS='|' read -r row; do
    for_goal=${row%%|*} && for_goal=${for_goal%% *}
    [ "$for_goal" = "$goal" ] || continue
    # the first field is cut at the first " | ", so that a test may hold "||"
    rest=${row#* | } test=${rest%% | *} rest=${rest#* | } packages=${rest%% | *} purpose=${rest#* | }
    eval "$test" >/dev/null 2>&1 && continue
    packages=$(echo $packages)
    if can_install; then
        if [ -z "$updated" ]; then
            root apt-get update -q >>"$scratch/log" 2>&1
            updated=1
        fi
        case $packages in *llvm*) install clang; llvm=$(clang -dumpversion 2>/dev/null | sed 's/\..*//');; esac
        packages=$(eval "echo $packages")
        echo "setup: installing $packages ($purpose)"
        install $packages
        eval "$test" >/dev/null 2>&1 && continue
        tail -n 3 "$scratch/log" >&2
    fi
    packages=$(llvm='*'; eval "echo \"$packages\"")
    if [ "$goal" = test ]; then
        echo "setup: missing: $purpose; its tests skip themselves (Debian: apt-get install $packages)"
    else
        echo "setup: missing: $purpose (Debian: apt-get install $packages)" >&2
        failed=1
    fi
done <<T
$(echo "$table" | sed -e 's/^ *//' -e 's/  */ /g' -e '/^$/d')
T
exit $failed
