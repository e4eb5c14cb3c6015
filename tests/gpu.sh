#!/bin/sh
# tests/gpu.sh [--dry] [PART...] [MODEL.gguf...]: what can be proved and measured only with an NVIDIA GPU, in one call of less than ten minutes.
#
#     build      smolq_cuda.cu for this GPU, the tests, the example programs
#     bits       tests/test_cuda.c on the GPU: every operation and many models, memcmp against the reference backend
#     promises   tests/gpu.c: 100 runs with one hash, plans, memory that ends, two models, threads
#     bench      decode at depths 0, 4096 and 32000, prefill of 512 and 2048 tokens, 1, 4, 16 and 64 contexts at once, memory, upload: a table for docs/performance.md
#     sanitize   compute-sanitizer (memcheck, racecheck, synccheck, initcheck) on the bundled model; last, as it takes what time is left
#
# Without names all parts.  bench measures the models that are named; without names the stand-ins that ../shared/tools/make_model.py writes to build/gpu, where it is there (SMOLQ_SHARED says
# where ../shared/data is else).  It needs nvcc, on PATH or in /usr/local/cuda, a C compiler, and no network.  Each part has a limit of time; SMOLQ_GPU_SECONDS (570) is that of all.
# Without a GPU it skips everything.  --dry is for machines without one: it compiles and links all of it for sm_90, runs on the shim what can run there, and says what is left out.
set -u
cd "$(dirname "$0")/.." || exit 1
out=build/gpu
mkdir -p $out
begun=$(date +%s)
seconds=${SMOLQ_GPU_SECONDS-570}
shared=${SMOLQ_SHARED-../shared/data}
small=examples/models/smolq-tales.Q4_K_M.gguf
cc=${CC-cc} cxx=${CXX-c++}
passed=0 failed=0 skipped=0

ok() { echo "ok   $1"; passed=$((passed + 1)); }
fail() { echo "FAIL $1: $2"; failed=$((failed + 1)); }
skip() { echo "skip $1: $2"; skipped=$((skipped + 1)); }
finish() {
    echo "$(($(date +%s) - begun)) s in all"
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed -eq 0 ]
    exit
}
# within SECONDS COMMAND...: no longer than that, nor than what is left for all; status 124 if it took longer, 125 if nothing was left
within() {
    left=$((seconds - $(date +%s) + begun))
    [ "$left" -gt "$1" ] && left=$1
    shift
    [ "$left" -gt 0 ] || return 125
    if command -v timeout >/dev/null 2>&1; then timeout "$left" "$@"; else "$@"; fi
}
# program NAME LOG STATUS: adds up a test program's own lines; one that ended otherwise is a failure
program() {
    grep -a -E '^(ok|FAIL|skip) ' "$2"
    p=$(grep -a -c '^ok ' "$2") f=$(grep -a -c '^FAIL ' "$2") s=$(grep -a -c '^skip ' "$2")
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    if [ "$3" -eq 125 ]; then skip "$1" "no time is left"
    elif [ "$3" -eq 124 ]; then fail "$1" "it took too long"
    elif [ "$3" -ne 0 ] && [ "$f" -eq 0 ]; then fail "$1" "status $3, $(tail -n 1 "$2")"
    elif [ $((p + f + s)) -eq 0 ]; then fail "$1" "it ran no test"
    fi
}

dry= parts= models=
for word; do
    case $word in
        --dry) dry=1;;
        build|bits|promises|sanitize|bench) parts="$parts $word";;
        *.gguf) if [ -r "$word" ]; then models="$models $word"; else fail "$word" "it can't be read"; finish; fi;;
        *) sed -n '2,/^set -u/s/^# \{0,1\}//p' "$0"; exit 2;;
    esac
done
asked=${parts:-" build bits promises bench sanitize"}
wants() { case "$asked " in *" $1 "*) return 0;; esac; return 1; }

# ---- the machine ----

nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null) || { skip "the GPU" "no nvcc"; finish; }
cat >$out/probe.cu <<'CUDA'
#include <stdio.h>
int main()
{
    cudaDeviceProp facts;
    int driver = 0, n = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    if (error == cudaSuccess && n > 0) error = cudaGetDeviceProperties(&facts, 0);
    if (error != cudaSuccess || n == 0) return printf("%s\n", error != cudaSuccess ? cudaGetErrorString(error) : "there is none"), 1;
    cudaDriverGetVersion(&driver);
    printf("%d%d %s, %d SMs, %d MB, driver for CUDA %d.%d\n", facts.major, facts.minor, facts.name, facts.multiProcessorCount, (int)(facts.totalGlobalMem >> 20), driver / 1000, driver % 100 / 10);
}
CUDA
if ! "$nvcc" $out/probe.cu -o $out/probe >$out/probe.log 2>&1; then
    fail "nvcc compiles a program" "$(tail -n 1 $out/probe.log)"
    finish
fi
machine=$($out/probe)
gpu=$?
if [ -n "$dry" ]; then
    sm=90
    echo "dry: compiled for sm_$sm, run on the shim"
elif [ $gpu -ne 0 ]; then
    skip "the GPU" "$machine"
    finish
else
    sm=${machine%% *}
    echo "${machine#* }, sm_$sm, $("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/nvcc \1/p'), $(date +%F)"
fi

# ---- the stand-ins, made while the programs compile ----

makers=
if wants bench && [ -z "$dry$models" ] && [ -r "$shared/../tools/make_model.py" ] && command -v python3 >/dev/null 2>&1; then
    for name in qwen2.5-0.5b smollm3-3b; do
        [ -f $out/$name.gguf ] || { within 200 python3 "$shared/../tools/make_model.py" $name $out/$name.new >$out/$name.log 2>&1 && mv $out/$name.new $out/$name.gguf; } &
        makers="$makers $name"
    done
fi

# ---- build: side by side, as far as they do not need each other ----

# made FILE COMMAND...: in the background; the log beside it says why it is not there
made() {
    file=$1
    shift
    rm -f "$file"
    "$@" >"$file.log" 2>&1 &
}
is_made() { # NAME FILE
    if [ ! -f "$2" ]; then fail "$1" "$(grep -m 1 -i -E 'error|undefined' "$2.log" || tail -n 1 "$2.log")"
    elif grep -q -i warning "$2.log"; then fail "$1 without a warning" "$(grep -m 1 -i warning "$2.log")"
    else ok "$1"
    fi
}
examples='logits generate bench perplexity'
if wants build || [ ! -x $out/bench ] || [ ! -x $out/test_cuda ]; then
    made $out/smolq_cuda.o "$nvcc" -O2 -I. -gencode "arch=compute_$sm,code=sm_$sm" -c smolq_cuda.cu -o $out/smolq_cuda.o
    made $out/bench_cuda.o "$nvcc" -O2 -I. -gencode "arch=compute_$sm,code=sm_$sm" -c examples/bench_cuda.cu -o $out/bench_cuda.o
    [ -n "$dry" ] && wait # a machine without a GPU may be a small one
    made $out/smolq_cpu.o "$cc" -O2 -I. -c smolq_cpu.c -o $out/smolq_cpu.o
    [ -n "$dry" ] && wait
    for name in $examples; do made $out/$name.o "$cc" -O2 -I. -DSMOLQ_WITH_CPU -DSMOLQ_WITH_CUDA -c examples/$name.c -o $out/$name.o; done
    [ -n "$dry" ] && wait
    made $out/test_cuda.o "$cc" -std=gnu99 -O2 -I. -DTEST_CUDA_GPU -c tests/test_cuda.c -o $out/test_cuda.o
    made $out/promises.o "$cc" -std=gnu99 -O2 -I. -c tests/gpu.c -o $out/promises.o
    sed 's/, NULL, &model,/, \&(smolq_open_options){ .backend = smolq_backend_cuda() }, \&model,/' examples/hello.c >$out/app.c # as README says
    made $out/app "$nvcc" -O2 -I. $out/app.c smolq_cpu.c smolq_cuda.cu -o $out/app
    wait
    is_made "smolq_cuda.cu compiles for sm_$sm" $out/smolq_cuda.o
    is_made "the control compiles" $out/bench_cuda.o
    is_made "smolq_cpu.c compiles" $out/smolq_cpu.o
    is_made "nvcc -O2 app.c smolq_cpu.c smolq_cuda.cu" $out/app
    [ $failed -eq 0 ] || finish
    for name in $examples; do
        control=
        [ $name = bench ] && control=$out/bench_cuda.o
        made $out/$name "$nvcc" $out/$name.o $control $out/smolq_cpu.o $out/smolq_cuda.o -o $out/$name -lm -lpthread
    done
    for name in test_cuda promises; do made $out/$name "$nvcc" $out/$name.o $out/smolq_cuda.o -o $out/$name -lm -lpthread; done
    wait
    for name in $examples test_cuda promises; do is_made "$name links with it" $out/$name; done
    [ $failed -eq 0 ] || finish
fi

# --dry: the same programs on the shim, and what those for a GPU say where there is none
if [ -n "$dry" ]; then
    make -s build/tests/smolq_cuda.o build/tests/test_cuda >$out/shim.log 2>&1 || { fail "the shim compiles" "$(grep -m 1 error $out/shim.log)"; finish; }
    $cxx -std=gnu++17 -O2 -x c++ -DSMOLQ_CUDA_SHIM -I. -include tests/cuda_shim.h -c examples/bench_cuda.cu -o $out/shim_control.o &&
        $cc -std=gnu99 -O2 -I. -DTEST_CUDA_SHIM -c tests/gpu.c -o $out/shim_promises.o &&
        $cxx $out/shim_promises.o build/tests/smolq_cuda.o -o $out/shim_promises -lm -lpthread &&
        $cxx $out/bench.o $out/shim_control.o build/tests/smolq_cuda.o $out/smolq_cpu.o -o $out/shim_bench -lm -lpthread &&
        $cxx $out/logits.o build/tests/smolq_cuda.o $out/smolq_cpu.o -o $out/shim_logits -lm -lpthread || { fail "the programs link with the shim" "see above"; finish; }
    if [ $gpu -ne 0 ]; then
        for name in logits bench app; do
            case $name in logits) set -- -m $small --backend cuda --tokens 1 --hash;; bench) set -- -m $small --backend cuda;; *) set --;; esac
            said=$($out/$name "$@" 2>&1 >/dev/null)
            status=$?
            case $status,$said in
                1,*"no GPU that CUDA can use"*) ok "$name without a GPU says: ${said#*: }";;
                *) fail "$name without a GPU" "status $status, $said";;
            esac
        done
    fi
    # The programs of the parts below are these from here on, and do less.
    test_cuda=build/tests/test_cuda promises=$out/shim_promises bench=$out/shim_bench logits=$out/shim_logits
    SMOLQ_GPU_RUNS=${SMOLQ_GPU_RUNS-4}
    export SMOLQ_GPU_RUNS
else
    test_cuda=$out/test_cuda promises=$out/promises bench=$out/bench logits=$out/logits
fi

wait
for name in $makers; do
    if [ -f $out/$name.gguf ]; then models="$models $out/$name.gguf"; else fail "$name is made" "$(tail -n 1 $out/$name.log)"; fi
done

# ---- bits ----

# same_hashes MODEL BATCH...: of the logits of $ids
same_hashes() {
    model=$1
    shift
    expected=$(within 60 $out/logits -m "$model" --backend cpu --tokens "$ids" --hash)
    for batch; do
        hash=$(within 60 $logits -m "$model" --backend cuda --tokens "$ids" --hash --batch $batch 2>&1)
        status=$?
        if [ $status -eq 125 ]; then skip "$(basename "$model"), batches of $batch" "no time is left"
        elif [ $status -eq 0 ] && [ "$hash" = "$expected" ]; then ok "$(basename "$model") has the CPU backend's logits, batches of $batch"
        else fail "$(basename "$model"), batches of $batch" "hash $hash, expected $expected"
        fi
    done
}
if wants bits; then
    log=$out/bits.log
    if [ -n "$dry" ]; then
        within 120 $test_cuda "in a row" >$log 2>&1
        status=$?
        skip "all other operations and models" "make test runs them on the shim"
    else
        within 200 $test_cuda >$log 2>&1
        status=$?
    fi
    program test_cuda $log $status
    ids="4080 704 549 258 482 1234 77 9 300 41 5 2011"
    [ -n "$dry" ] && ids="4080 704 549"
    same_hashes $small 1 5 64
    if [ -z "$dry" ]; then
        "$cc" -O2 -I. examples/hello.c -o $out/hello -lm && $out/hello >$out/hello.txt && within 60 $out/app >$out/app.txt 2>&1
        if cmp -s $out/hello.txt $out/app.txt; then ok "the program in one line writes what the reference backend writes"
        else fail "the program in one line" "$(tail -n 1 $out/app.txt)"; fi
        ids=$(awk 'BEGIN { for (i = 1; i <= 48; i++) printf "%d ", i * 2503 % 30000 }')
        for full in $models; do same_hashes "$full" 1 48; done # the CPU backend is the judge
    fi
fi

# ---- promises ----

if wants promises; then
    within 120 $promises >$out/promises.txt 2>&1
    program promises $out/promises.txt $?
fi

# ---- bench ----

# value KEY FILE: of the JSON object in it
value() { sed -n "s/.*\"$1\": \"\{0,1\}\([^,\"}]*\).*/\1/p" "$2"; }
# row NAME KEY OPTION...: runs bench and prints a line of the table with tokens per second
row() {
    name=$1 key=$2
    shift 2
    json=$out/bench.json
    within 60 $bench -m "$model" --backend cuda --json "$@" >$json 2>$out/bench.err
    status=$?
    if [ $status -ne 0 ] || [ ! -s $json ]; then
        case $status in
            124) fail "$(basename "$model"), $name" "it took too long";;
            125) skip "$(basename "$model"), $name" "no time is left";;
            *) fail "$(basename "$model"), $name" "status $status, $(tail -n 1 $out/bench.err)";;
        esac
        return 1
    fi
    passed=$((passed + 1))
    awk -v name="$name" -v tps="$(value "$key" $json)" -v key="$key" -v weights="$(value decode_gbps $json)" -v kv="$(value kv_gbps $json)" -v control="$(value control_gbps $json)" \
        -v bytes="$(value device_bytes $json)" 'BEGIN {
            printf "| %s | %.1f |", name, tps
            if (key == "decode_tps") { printf " %.0f + %.0f | %.0f | ", weights, kv, control; if (control > 0) printf "%.0f %%", 100 * (weights + kv) / control; printf " |" }
            else printf " | | |"
            printf " %.0f |\n", bytes / 1e6 }'
}
if wants bench; then
    if [ -n "$dry" ]; then
        models=$small
        skip "the stand-ins, all sizes" "the shim shows only that the table comes out"
    elif [ -z "$models" ]; then
        skip "bench" "no model is named, and no make_model.py or python3 makes the stand-ins"
    fi
    for model in $models; do
        cat "$model" >/dev/null # into the page cache: uploads are measured warm
        echo
        echo "| $(basename "$model" .gguf) | tok/s | weights + KV, GB/s | control, GB/s | of it | VRAM, MB |"
        echo "|---|---|---|---|---|---|"
        if [ -n "$dry" ]; then
            row "decode, 3 tokens deep" decode_tps -p 2 -n 2 -d 3
            row "prefill 6" prefill_tps -p 6 -n 1
            row "decode, 3 contexts" decode_tps -p 2 -n 1 -b 3
            continue
        fi
        row "decode, 0 tokens deep" decode_tps -p 16 -n 128 -d 0 &&
            facts="opened in $(value open_ms $json) ms, weights uploaded at $(value upload_gbps $json) GB/s, first token after $(value first_token_ms $json) ms" || facts="not opened"
        for depth in 4096 32000; do row "decode, $depth tokens deep" decode_tps -p 512 -n 64 -d $depth --batch 512; done
        for n in 512 2048; do row "prefill $n" prefill_tps -p $n -n 8 --batch $n; done
        for n in 4 16 64; do row "decode, $n contexts" decode_tps -p 16 -n 64 -d 16 -b $n; done
        echo
        echo "$(basename "$model"): $facts"
    done
    echo
fi

# ---- sanitize ----

if wants sanitize; then
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
    for tool in memcheck racecheck synccheck initcheck; do
        if [ -n "$dry" ]; then skip "$tool" "it needs a GPU; make asan runs the kernels under AddressSanitizer and UBSan"; continue; fi
        if [ -z "$sanitizer" ]; then skip "$tool" "no compute-sanitizer"; continue; fi
        leaks=
        [ $tool = memcheck ] && leaks='--leak-check full'
        for batch in 1 9; do # the kernels of decoding, those of prompts
            within 40 "$sanitizer" --tool $tool $leaks --error-exitcode 9 $logits -m $small --backend cuda --tokens "4080 704 549 258 482 1234 77 9 300 41 5" --hash --batch $batch >$out/$tool.$batch.log 2>&1
            status=$?
            why=$(grep -m 1 -E '^=+ *(Error|Warning|Invalid|Race|Barrier|Uninit|Program hit|.*(hazard|error))' $out/$tool.$batch.log)
            case $status in
                0) ok "$tool, batches of $batch";;
                124) fail "$tool, batches of $batch" "it took too long";;
                125) skip "$tool, batches of $batch" "no time is left";;
                *) if grep -q -i 'not supported\|unable to' $out/$tool.$batch.log; then skip "$tool, batches of $batch" "$(grep -m 1 -i 'not supported\|unable to' $out/$tool.$batch.log)"
                   else fail "$tool, batches of $batch" "status $status, $why"; fi;;
            esac
        done
    done
fi

finish
