#!/bin/sh
# The programs that write model files, killed at 200 moments (each at 200 with SMOLQ_LONG) and on a full disk: the target stays the old file or is the new one, whole, and nothing lies beside it.
# (On Linux the temporary file has a name, TARGET.part, only for the moment in which it takes the old one's place.)
#
# The disk that gets full is a small tmpfs, where this user may mount one (as root, or in a namespace of its own); else a limit of file sizes.
set -u
cd "$(dirname "$0")/.." || exit 1
model=$(pwd)/examples/models/smolq-tales.Q4_K_M.gguf
root=$(pwd)
moments=40 # of five
[ -z "${SMOLQ_LONG-}" ] || moments=200

for name in smq quantize gguf; do
    [ -x build/$name ] || make -s build/$name >/dev/null 2>&1 || { echo "FAIL build/$name is not there"; exit 1; }
done

# Who: a name, then a command that writes "target" in its folder, where "old", "in.gguf" and "in.smq" lie.
each() {
    $1 "pack" "$root/build/smq" pack in.gguf target
    $1 "unpack" "$root/build/smq" unpack in.smq target
    $1 "quantize" "$root/build/quantize" in.gguf target COPY --tensor 'blk.0.*=q8_0'
    $1 "set" "$root/build/gguf" set in.gguf general.name "Another name" -o target
    $1 "set in place" "$root/build/gguf" set target general.name "Another name"
}

litter() { ls -A | grep -v -x -e in.gguf -e in.smq -e target -e target.part; }

# ---- killed ----

killed() {
    name=$1
    shift
    cp in.gguf "$scratch/kept/old"
    [ "$name" = unpack ] && cp in.smq "$scratch/kept/old" # so that the new file is another one
    cp "$scratch/kept/old" target
    begun=$(date +%s%N)
    "$@" >/dev/null 2>&1 || { echo "FAIL $name, killed: it does not run"; return; }
    took=$((($(date +%s%N) - begun) / 1000)) # microseconds
    cp target "$scratch/kept/new"
    cmp -s "$scratch/kept/old" "$scratch/kept/new" && { echo "FAIL $name, killed: writes the old file"; return; }
    i=0 old=0 new=0 why=
    while [ $i -lt $moments ] && [ -z "$why" ]; do
        i=$((i + 1))
        cp "$scratch/kept/old" target
        "$@" >/dev/null 2>&1 &
        pid=$!
        sleep "$(awk -v us=$((took * (i * 79 % moments) / moments)) 'BEGIN { printf "%.6f", us / 1e6 }')"
        kill -9 $pid 2>/dev/null
        wait $pid 2>/dev/null
        if cmp -s target "$scratch/kept/old"; then old=$((old + 1))
        elif cmp -s target "$scratch/kept/new"; then new=$((new + 1))
        else why="moment $i: neither the old file nor the new one"; fi
        [ -z "$(litter)" ] || why="moment $i: $(litter | head -n 1)"
        rm -f target.part
    done
    [ $old -gt 0 ] || why="${why:-it was never killed before its end}"
    if [ -z "$why" ]; then echo "ok   $name, killed at $moments moments: $old old files, $new new ones"
    else echo "FAIL $name, killed: $why"; fi
}

# ---- full disk ----

# In a folder with room for the old file and not for the new one.
full() {
    name=$1
    shift
    [ "$name" = "set in place" ] && return # needs a target as large as what it writes: the next function
    rm -f target
    head -c 3000 in.gguf >target
    cp target "$scratch/kept/old"
    said=$("$@" 2>&1 >/dev/null)
    status=$?
    why=
    [ $status -eq 1 ] || why="status $status"
    case $said in *target*) ;; *) why="$why, it says: $said" ;; esac
    cmp -s target "$scratch/kept/old" || why="$why, the old file is gone"
    [ -e target.part ] && why="$why, target.part is left"
    [ -z "$(litter)" ] || why="$why, $(litter | head -n 1) is left"
    if [ -z "$why" ]; then echo "ok   $name, $disk: the old file stays"; else echo "FAIL $name, $disk: $why"; fi
}
in_place() {
    cp in.gguf target && cp in.gguf "$scratch/kept/old"
    "$root/build/gguf" set target general.name "Another name" >/dev/null 2>&1
    status=$?
    if [ $status -eq 1 ] && cmp -s target "$scratch/kept/old" && [ ! -e target.part ] && [ -z "$(litter)" ]; then echo "ok   set in place, $disk: the old file stays"
    else echo "FAIL set in place, $disk: status $status, $(ls -A | tr '\n' ' ')"; fi
}

# In a folder on a small disk.
fill() {
    cd "$1" || exit 1
    cp "$scratch/work/in.gguf" "$scratch/work/in.smq" . || exit 1
    disk="full disk"
    each full
    rm -f target in.smq
    in_place
}

# tests/test_crash.sh --small SCRATCH KB: where a user may mount in a namespace of its own
if [ "${1-}" = --small ]; then
    scratch=$2
    mount -t tmpfs -o size="$3"k none "$scratch/small" || exit 1
    fill "$scratch/small"
    exit 0
fi

scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/work" "$scratch/kept"
cd "$scratch/work" || exit 1
cp "$model" in.gguf
"$root/build/smq" pack in.gguf in.smq >/dev/null || exit 1
case $(date +%s%N) in
    *N) echo "skip programs killed at random moments: no clock in nanoseconds" ;;
    *) each killed ;;
esac

mkdir "$scratch/small"
size=$((($(wc -c <in.gguf) + $(wc -c <in.smq)) / 1024 + 3000)) # KB: both inputs and 3 MB
if mount -t tmpfs -o size=${size}k none "$scratch/small" 2>/dev/null; then
    (fill "$scratch/small")
    umount "$scratch/small"
elif unshare -rm true 2>/dev/null; then
    (cd "$root" && unshare -rm sh tests/test_crash.sh --small "$scratch" $size)
else
    (
        disk="no file may grow"
        trap '' XFSZ
        ulimit -f 2000
        each full
    )
fi
