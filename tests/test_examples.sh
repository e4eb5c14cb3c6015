#!/bin/sh
# The example programs as their users run them: each compiles with the line in its head, says what is wrong, and does what its comment says.
set -u
cd "$(dirname "$0")/.." || exit 1
model=examples/models/smolq-tales.Q4_K_M.gguf
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
failed=0
check() { # name, what was expected, what was found
    if [ "$2" = "$3" ]; then echo "ok   $1"
    else echo "FAIL $1: expected $(printf %s "$2" | head -c 120 | tr '\n' ' '), got $(printf %s "$3" | head -c 120 | tr '\n' ' ')"; failed=1; fi
}
# name, then a command that must fail with status 1, a message that holds the word, and nothing on standard output
refuses() {
    refusal=$1 word=$2
    shift 2
    "$@" >"$scratch/out" 2>"$scratch/err" </dev/null
    status=$?
    why=
    [ $status -eq 1 ] || why="status $status"
    [ -s "$scratch/out" ] && why="$why, output"
    grep -q -e "$word" "$scratch/err" || why="$why, no \"$word\" in: $(head -c 200 "$scratch/err")"
    check "$refusal" "" "$why"
}

# ---- every program ----

# The programs are make's.  Beside that each compiles with the line in its head: one as it stands, another every day, those that it is not the turn of without optimization and,
# if they link the CPU backend, with make's object of it, which take a tenth of the time.
make -s examples >"$scratch/why" 2>&1 || { echo "FAIL make examples: $(grep -m 1 -E 'error|missing' "$scratch/why")"; failed=1; }
turn=$(($(date +%s) / 86400 % $(ls examples/*.c | wc -l))) number=0
jansson=$(echo '#include <jansson.h>' | ${CC-cc} -E - >/dev/null 2>&1 && echo yes)
for source in examples/*.c; do
    name=$(basename "$source" .c)
    line=$(sed -n 's/^ \* *\(cc .*\)$/\1/p' "$source" | head -n 1)
    case $name in
        quantize) stated="cc -O2 -I. $source -o build/$name -lm -lpthread";;
        smq) stated="cc -O2 -I. -DSMQ_WITH_JANSSON $source -o build/$name -lm -ljansson";;
        hello|inspect|tokenize|gguf) stated="cc -O2 -I. $source -o build/$name -lm";;
        *) stated="cc -O2 -I. -DSMOLQ_WITH_CPU $source smolq_cpu.c -o build/$name -lm -lpthread";;
    esac
    check "$name states its compile line" "$stated" "$line"
    [ $name = smq ] && [ -z "$jansson" ] && line=$(echo "$line" | sed 's/ -DSMQ_WITH_JANSSON//; s/ -ljansson//')
    line=$(echo "$line" | sed "s| -o build/$name | -o $scratch/compiled |")
    [ $number -eq $turn ] || [ -n "${SMOLQ_LONG-}" ] || line=$(echo "$line" | sed 's| smolq_cpu.c | build/smolq_cpu.o |; s| -O2 | -O0 |')
    number=$((number + 1))
    if ! ${CC-cc} ${line#cc } -Wall -Wextra >"$scratch/why" 2>&1; then
        echo "FAIL $name compiles with it: $(grep -m 1 error "$scratch/why")"
        failed=1
        continue
    fi
    check "$name compiles with it without a warning" "" "$(grep -m 1 warning "$scratch/why")"
    help=$(build/$name --help 2>"$scratch/err" | wc -l)
    check "$name --help" "yes" "$([ "$help" -gt 0 ] && [ ! -s "$scratch/err" ] && echo yes)"
    [ "$name" = hello ] && continue
    refuses "$name: an unknown option" "unknown option --nonsense" build/$name --nonsense
done
sed -n '/^```c$/,/^```$/p' README.md | grep -v '^```' >"$scratch/readme.c"
check "the program in README.md compiles" "" "$(${CC-cc} -O2 -Wall -Wextra -I. "$scratch/readme.c" -o "$scratch/readme" -lm 2>&1 | grep -m 1 -E 'warning|error')"

for name in generate logits bench perplexity; do
    [ -x build/$name ] || exit 1
    set --
    [ $name = logits ] && set -- --tokens 1
    [ $name = perplexity ] && set -- -f README.md
    refuses "$name: a missing file" "/no/such/file" build/$name -m /no/such/file "$@"
    refuses "$name: a file that is no model" GGUF build/$name -m README.md "$@"
    refuses "$name: an unknown backend" "unknown backend" build/$name -m $model "$@" --backend abacus
    refuses "$name: a backend that is not linked" "not linked" build/$name -m $model "$@" --backend cuda
    refuses "$name: an unknown isa" "unknown isa" build/$name -m $model "$@" --isa abacus
    refuses "$name: an unknown KV type" "unknown KV" build/$name -m $model "$@" --kv f8
done
refuses "hello: a missing file" "/no/such/file" build/hello /no/such/file
refuses "inspect: a missing file" "/no/such/file" build/inspect /no/such/file
refuses "inspect: a file that is no GGUF" GGUF build/inspect README.md
refuses "tokenize: a file that is no GGUF" GGUF build/tokenize -m README.md
refuses "a value that is missing" "missing" build/generate -n
refuses "a number that is none" "expected" build/generate -n 12x
refuses "a number that is too large" "expected" build/generate -n 3000000000
refuses "a negative number where none can be" "expected" build/generate -t -2

# ---- hello, generate ----

check "hello says its text" "Once upon a time" "$(build/hello $model | head -c 16)"
text=$(build/generate -p "Once upon a time" -n 24 --seed 3)
check "generate writes something" yes "$([ ${#text} -gt 24 ] && echo yes)"
check "the same seed gives the same text" "$text" "$(build/generate -m $model -p "Once upon a time" -n 24 --seed 3)"
check "-t, --isa and --backend change nothing" "$text" "$(build/generate -p "Once upon a time" -n 24 --seed 3 -t 2 --isa ref --backend ref)"
check "--host-layers changes nothing without a GPU" "$text" "$(build/generate -p "Once upon a time" -n 24 --seed 3 --host-layers 1)"
for isa in ref avx2 avxvnni avx512 amx neon; do
    check "the same text with --isa $isa" "$text" "$(build/generate -p "Once upon a time" -n 24 --seed 3 -t 3 --isa $isa)"
done
check "--stats names the backend" yes "$(build/generate -n 2 --stats -t 2 2>&1 >/dev/null | grep -q -E '; cpu: [a-z0-9]+, [12] thread' && echo yes)"
check "another seed gives another text" differs "$([ "$text" != "$(build/generate -p "Once upon a time" -n 24 --seed 4)" ] && echo differs)"
greedy=$(build/generate -p "Once upon a time" -n 24 --temp 0)
check "temperature 0 does without a seed" "$greedy" "$(build/generate -p "Once upon a time" -n 24 --temp 0 --seed 9)"
check "top-k 1 is greedy too" "$greedy" "$(build/generate -p "Once upon a time" -n 24 --top-k 1 --seed 5)"
check "generate and hello agree" "Once upon a time$greedy" "$(build/hello $model "Once upon a time" | head -c $((16 + ${#greedy})))"
check "--echo puts the prompt first" "Once upon a time$greedy" "$(build/generate -n 24 --temp 0 --echo)"
word=$(printf %s "$greedy" | tr -c 'a-z' '\n' | grep -m 1 -E '^.{4,}')
check "--stop ends before the stop string" "$(printf %s "${greedy%%"$word"*}" | od -c)" "$(build/generate -n 24 --temp 0 --stop "$word" | head -c -1 | od -c)"
check "--stats says speed and memory" 2 "$(build/generate -n 4 --stats 2>&1 >/dev/null | grep -c -E '^(speed: .*tokens per second|memory: .*resident)')"
check "without --stats stderr stays empty" "" "$(build/generate -n 2 2>&1 >/dev/null)"
check "a full context ends the text" yes "$(build/generate -c 16 -n -1 --temp 0 --stats 2>&1 >/dev/null | grep -q 'context is full' && echo yes)"
refuses "a model that knows no chat format" "chat" build/generate --chat -p Hello
refuses "--system without --chat" "needs --chat" build/generate --system x
refuses "a prompt that is too long" "room for 4" build/generate -c 4 -p "Once upon a time there was a king who had three sons"
check "it finds its model from elsewhere" "$greedy" "$(root=$(pwd); cd / && "$root/build/generate" -n 24 --temp 0)"

# ---- tokenize ----

ids=$(printf 'Once upon a time' | build/tokenize -m $model)
check "ids on one line" 1 "$(printf '%s\n' "$ids" | grep -c -E '^[0-9]+( [0-9]+)*$')"
check "--bos puts one more in front" "4080 $ids" "$(printf 'Once upon a time' | build/tokenize -m $model --bos)"
check "a last newline is text" differs "$([ "$ids" != "$(printf 'Once upon a time\n' | build/tokenize -m $model)" ] && echo differs)"
printf 'Gr\303\274\303\237e  aus \360\237\217\240\n\n\tx<|im_start|>\000\377\n' >"$scratch/text"
build/tokenize -m $model <"$scratch/text" | build/tokenize -m $model --decode >"$scratch/back"
check "any bytes come back" "" "$(cmp "$scratch/text" "$scratch/back" 2>&1)"
check "control tokens only when asked" "1 yes" "$(printf '<|im_start|>' | build/tokenize -m $model --special | wc -w | tr -d ' ') $([ "$(printf '<|im_start|>' | build/tokenize -m $model | wc -w)" -gt 1 ] && echo yes)"
check "no text, no ids" "" "$(build/tokenize -m $model </dev/null)"
echo "1 two 3" >"$scratch/junk"
check "ids that are none are refused" 1 "$(build/tokenize -m $model --decode <"$scratch/junk" >/dev/null 2>&1; echo $?)"
check "ids outside the vocabulary are refused" 1 "$(echo 4096 | build/tokenize -m $model --decode >/dev/null 2>&1; echo $?)"

# ---- logits ----

tokens="4080 704 549 258 482 44 429 297 258 428"
hash=$(build/logits -m $model --tokens "$tokens" --hash)
check "a hash has 16 hex digits" 1 "$(printf '%s\n' "$hash" | grep -c -E '^[0-9a-f]{16}$')"
for batch in 1 2 3 7 10 100; do
    check "the same logits in batches of $batch" "$hash" "$(build/logits -m $model --tokens "$tokens" --hash --batch $batch)"
done
for with in "--backend ref" "--isa avx2 -t 1" "--isa avxvnni -t 2" "--isa avx512 -t 2" "--isa ref" "-t 3 --batch 2"; do
    check "the same logits $with" "$hash" "$(build/logits -m $model --tokens "$tokens" --hash $with)"
done
check "another KV type, other logits" differs "$([ "$hash" != "$(build/logits -m $model --tokens "$tokens" --hash --kv q8_0)" ] && echo differs)"
build/logits -m $model --tokens "$tokens" -o "$scratch/logits" && build/logits -m $model --tokens "$tokens" >"$scratch/logits2"
check "logits of every position" $((10 * 4096 * 4)) "$(wc -c <"$scratch/logits" | tr -d ' ')"
check "-o and standard output agree" "" "$(cmp "$scratch/logits" "$scratch/logits2" 2>&1)"
refuses "a token outside the vocabulary" "4096" build/logits -m $model --tokens "4096" --hash
refuses "no tokens" "expected" build/logits -m $model --tokens "" --hash

# ---- quantize ----

census() { build/inspect "$1" | awk '/bits\/weight/ { on = 1; next } NF == 0 { on = 0 } on { printf "%s %s, ", $2, $1 }'; }
quantize() { build/quantize "$@" >"$scratch/said" 2>&1 || cat "$scratch/said"; }
check "COPY changes no byte" "" "$(quantize $model "$scratch/copy.gguf" copy; cmp $model "$scratch/copy.gguf" 2>&1)"
quantize $model "$scratch/q.gguf" COPY --tensor 'blk.7.ffn_d*=Q8_0' --tensor 'blk.7.*=f16' --tensor nothing.like.it=F16 --tensor blk.7.ffn_d=Q5_K
check "--tensor rules change the matrices that they name" "43 q4_k, 7 q6_k, 6 f16, 1 q8_0, 17 f32, " "$(census "$scratch/q.gguf")"
check "what is quantized stays so" "" "$(quantize $model "$scratch/q.gguf" q8_0; build/inspect "$scratch/q.gguf" | grep q8_0)"
check "--requantize" "57 q8_0, 17 f32, " "$(quantize --requantize $model "$scratch/q.gguf" q8_0 -t 1; census "$scratch/q.gguf")"
check "any number of threads writes the same bytes" "" "$(quantize $model "$scratch/q3.gguf" Q8_0 --requantize -t 3; cmp "$scratch/q.gguf" "$scratch/q3.gguf" 2>&1)"
check "OUT may be IN" "48 q4_k, 9 q6_k, 17 f32, " "$(quantize "$scratch/q3.gguf" "$scratch/q3.gguf" q4_k_m --requantize; census "$scratch/q3.gguf")"
check "a file that was quantized runs" 1 "$(build/logits -m "$scratch/q3.gguf" --tokens "1 2 3" --hash | grep -c -E '^[0-9a-f]{16}$')"
check "--keep-output" "57 q4_k, 17 f32, " "$(quantize "$scratch/q.gguf" "$scratch/q3.gguf" Q4_K_S --requantize --keep-output q4_k --tensor ffn_down=q4_k --tensor attn_v=q4_k; census "$scratch/q3.gguf")"
check "--dry-run writes nothing" "no 74" "$(build/quantize $model "$scratch/none.gguf" Q5_K_M --requantize --dry-run >"$scratch/said"; [ -e "$scratch/none.gguf" ] || printf 'no '; grep -c -e '->' "$scratch/said")"
check "general.file_type says the mix" 1 "$(build/inspect "$scratch/q.gguf" | grep -c 'general.file_type = 7$')"
imatrix() { build/imatrix -m $model -f README.md -c 128 "$@" >"$scratch/said" 2>&1 || cat "$scratch/said"; }
imatrix -o "$scratch/i.gguf" --chunks 6
check "imatrix hears every matrix of every layer" 56 "$(grep -o '^[0-9]*' "$scratch/said")"
imatrix -o "$scratch/i4.gguf" --chunks 4 --save 2
check "--resume ends as a run that was never interrupted" "" "$(imatrix -o "$scratch/i4.gguf" --chunks 6 --resume; cmp "$scratch/i.gguf" "$scratch/i4.gguf" 2>&1)"
check "each row is heard once" "768" "$(build/inspect "$scratch/i.gguf" --tensor blk.7.ffn_down.weight.counts --dump - | od -An -tf4 | tr -d ' ')"
check "importance is taken" "57 q8_0, 17 f32,  differs" "$(quantize $model "$scratch/qi.gguf" Q8_0 --requantize --imatrix "$scratch/i.gguf" | grep -v 'not in'; census "$scratch/qi.gguf"; cmp -s "$scratch/q.gguf" "$scratch/qi.gguf" || echo ' differs')"
refuses "imatrix: chunks of another length" "chunks of 128" build/imatrix -m $model -f README.md -c 64 -o "$scratch/i4.gguf" --resume
refuses "imatrix: another text" "not made of" build/imatrix -m $model -f CHANGELOG.md -c 128 -o "$scratch/i4.gguf" --resume
refuses "imatrix: a short text" "at least one chunk" build/imatrix -m $model -f "$scratch/junk" -o "$scratch/i5.gguf"
refuses "imatrix: a missing file" "/no/such/file" build/imatrix -m /no/such/file -f README.md -o "$scratch/i5.gguf"
refuses "quantize: a missing file" "/no/such/file" build/quantize /no/such/file "$scratch/none.gguf" Q8_0
refuses "quantize: a type that is none" "Q9_K" build/quantize $model "$scratch/none.gguf" Q9_K
refuses "quantize: a type that it can't make" "nvfp4" build/quantize $model "$scratch/none.gguf" COPY --tensor ffn_up=NVFP4
check "a mix with codebooks" "47 iq2_xxs, 1 q5_k, 9 q2_k, 17 f32, " "$(quantize $model "$scratch/iq.gguf" IQ2_XXS --requantize -t 2; census "$scratch/iq.gguf")"
check "and it runs" 1 "$(build/logits -m "$scratch/iq.gguf" --tokens "1 2 3" --hash | grep -c -E '^[0-9a-f]{16}$')"
refuses "quantize: a rule that is none" "PATTERN=TYPE" build/quantize $model "$scratch/none.gguf" COPY --tensor q8_0
refuses "quantize: a folder as OUT" "directory" build/quantize $model "$scratch" COPY
refuses "quantize: no TYPE" "expected IN OUT TYPE" build/quantize $model "$scratch/none.gguf"
refuses "quantize: importance that is no GGUF" GGUF build/quantize $model "$scratch/none.gguf" COPY --imatrix README.md
check "nothing is left of what failed" "" "$(ls "$scratch" | grep -E 'none|part')"

# ---- gguf ----

gguf() { build/gguf "$@" >"$scratch/said" 2>&1 || cat "$scratch/said"; }
check "split" 5 "$(gguf split $model "$scratch/part" --max 1M; ls "$scratch" | grep -c -E '^part-0000[1-5]-of-00005.gguf$')"
check "the parts are a model" "$hash" "$(build/logits -m "$scratch/part-00001-of-00005.gguf" --tokens "$tokens" --hash)"
check "merge gives the file back" "" "$(gguf merge "$scratch/part-00001-of-00005.gguf" "$scratch/whole.gguf"; cmp $model "$scratch/whole.gguf" 2>&1)"
check "split by number" 8 "$(gguf split $model "$scratch/ten" --tensors 10; ls "$scratch" | grep -c -E '^ten-0000[1-8]-of-00008.gguf$')"
rm -f "$scratch"/part-* "$scratch"/ten-*
check "files without a difference" "0 " "$(build/gguf diff $model "$scratch/whole.gguf"; echo "$? ")"
gguf set "$scratch/whole.gguf" general.name "Another, longer name"
gguf set --type 'i16[]' "$scratch/whole.gguf" my.numbers -- '-1,2,300'
gguf set "$scratch/whole.gguf" my.words 'one,two\,three,' --type 'string[]'
gguf set "$scratch/whole.gguf" my.words 'one,two\,three,four'
gguf set "$scratch/whole.gguf" my.float 0.25 --type f64
gguf rm "$scratch/whole.gguf" general.license
check "set and rm, by diff" "! key general.name - key general.license + key my.numbers + key my.words + key my.float 1" "$(echo $(build/gguf diff $model "$scratch/whole.gguf"; echo $?))"
check "set, by inspect" "-1, 2, 300 one, two,three, four 0.25" "$(build/inspect "$scratch/whole.gguf" | sed -n 's/.* my\.[a-z]* = \(\[3 [a-z0-9]*\] \)*//p' | tr '\n' ' ' | sed 's/ $//')"
check "a file with other metadata runs" "$hash" "$(build/logits -m "$scratch/whole.gguf" --tokens "$tokens" --hash)"
refuses "set: a key that is not there" "of what --type" build/gguf set "$scratch/whole.gguf" my.none 1
refuses "set: a number that does not fit" "is no u8" build/gguf set "$scratch/whole.gguf" my.byte 256 --type u8
refuses "set: a type that is none" "expected u8" build/gguf set "$scratch/whole.gguf" my.byte 256 --type byte
refuses "rm: a key that is not there" "missing key" build/gguf rm "$scratch/whole.gguf" my.none
refuses "split: no size" "how" build/gguf split $model "$scratch/part"
refuses "gguf: half a command" "expected split" build/gguf merge $model

# ---- smq ----

smq() { build/smq "$@" >"$scratch/said" 2>&1 || cat "$scratch/said"; }
check "pack and unpack give the file back" "" "$(smq pack $model "$scratch/tales.smq"; smq unpack "$scratch/tales.smq" "$scratch/tales.gguf"; cmp $model "$scratch/tales.gguf" 2>&1)"
check "an SMQ file runs" "$hash" "$(build/logits -m "$scratch/tales.smq" --tokens "$tokens" --hash)"
check "verify" "$scratch/tales.smq: whole, 74 tensors" "$(build/smq verify "$scratch/tales.smq" | sed 's/, [0-9.]* GB.s$//')"
check "info" "SMQ 2.0 74 tensors" "$(build/smq info "$scratch/tales.smq" | sed -n 's/^container *\(SMQ 2.0\),.*/\1/p; s/^holds .* \(74 tensors\), XXH64 .*/\1/p' | tr '\n' ' ' | sed 's/ $//')"
check "info --tensors" 74 "$(build/smq info "$scratch/tales.smq" --tensors | grep -c -E '^[0-9a-f]{16} +[0-9]+ +[0-9]+  [a-z0-9_]+ +[a-z0-9._]+  [0-9x ]+$')"
check "verify --tensors" 1 "$(build/smq verify "$scratch/tales.smq" --tensors | grep -c ': 74 whole tensors, [0-9.]* GB/s, again [0-9.]* GB/s$')"
cp "$scratch/tales.smq" "$scratch/bad.smq"
printf '\125' | dd of="$scratch/bad.smq" bs=1 seek=2000000 conv=notrunc 2>/dev/null
refuses "verify: a damaged tensor" "damaged: tensor 'blk" build/smq verify "$scratch/bad.smq"
refuses "unpack: a damaged tensor" "damaged: tensor 'blk" build/smq unpack "$scratch/bad.smq" "$scratch/none.gguf"
printf '\125' | dd of="$scratch/bad.smq" bs=1 seek=5000 conv=notrunc 2>/dev/null
refuses "damaged metadata" "damaged: the metadata" build/logits -m "$scratch/bad.smq" --tokens 1
check "nothing of what was refused" "" "$(ls "$scratch/none.gguf" 2>/dev/null)"
refuses "verify: a GGUF file" "no checksums" build/smq verify $model
refuses "pack: an SMQ file" "already" build/smq pack "$scratch/tales.smq" "$scratch/none.smq"
refuses "smq: half a command" "expected pack" build/smq pack $model
check "quantize takes an SMQ file" "" "$(build/quantize "$scratch/tales.smq" "$scratch/copy.gguf" COPY >"$scratch/said" 2>&1 || cat "$scratch/said"; build/gguf diff $model "$scratch/copy.gguf")"
# Version 1: tensors of all its types, scales that are f16 numbers and others, blocks that end within a row, all against numbers made beside them.
if [ -n "$jansson" ] && command -v python3 >/dev/null 2>&1; then
    python3 - "$scratch/v1.smq" "$scratch/v1.want" <<'T'
import json, struct, sys, random
random.seed(1)
def f32(x): return struct.unpack("<f", struct.pack("<f", x))[0]
tensors, want = [], []
def add(name, kind, dims, block, scale_of):
    n = 1
    for d in dims: n *= d
    scales = [] if kind == 1 else [f32(scale_of()) for _ in range((n + block - 1) // block)]
    if kind == 1: values = [f32(random.gauss(0, 1)) for _ in range(n)]; data = struct.pack("<%df" % n, *values)
    elif kind == 10: q = [random.randint(-128, 127) for _ in range(n)]; data = struct.pack("<%db" % n, *q)
    else:
        q = [random.randint(-8, 7) for _ in range(n)]
        data = bytes((q[i] & 15) | ((q[i + 1] & 15) << 4 if i + 1 < n else 0) for i in range(0, n, 2))
    if kind != 1: values = [f32(q[i] * scales[i // block]) for i in range(n)]
    tensors.append((name, kind, dims, block, data, struct.pack("<%df" % len(scales), *scales)))
    want.append((name, values))
half = lambda: random.randint(1, 1000) / 1024
any_scale = lambda: random.random() / 3
add("f32", 1, [3, 5], 64, None)
add("q8.half", 10, [4, 64], 64, half)
add("q8.any", 10, [4, 64], 64, any_scale)
add("q8.odd", 10, [7, 33], 64, half)
add("q4.half", 11, [2, 3, 64], 64, half)
add("q4.any", 11, [70, 1000], 64, any_scale)
add("q4.odd", 11, [1, 1, 1, 1, 5, 7], 64, half)
add("q8.big", 10, [300, 512], 64, half)
add("scalar", 1, [], 64, None)
meta = json.dumps({"model_name": "caf\u00e9", "layers": 7, "rate": 0.5, "yes": True, "nothing": None, "list": [1, 2]}).encode()
at, directory, blobs = 32 + len(meta) + 156 * len(tensors), b"", b""
for name, kind, dims, block, data, scales in tensors:
    directory += struct.pack("<64sIi8iIQQQQ16x", name.encode(), kind, len(dims), *(dims + [0] * (8 - len(dims))), block, at, len(data), at + len(data) if scales else 0, len(scales))
    blobs += data + scales
    at += len(data) + len(scales)
open(sys.argv[1], "wb").write(b"SMQv0001" + struct.pack("<IIIIQ", 1, 32, len(tensors), len(meta), 0) + meta + directory + blobs)
json.dump(want, open(sys.argv[2], "w"))
T
    smq unpack "$scratch/v1.smq" "$scratch/v1.gguf"
    check "version 1: types" "f32 q8_0 f32 f32 q4_0 f32 f32 q8_0 f32" "$(echo $(build/inspect "$scratch/v1.gguf" --json | python3 -c 'import json, sys; print(*[t["type"] for t in json.load(sys.stdin)["tensors"]])'))"
    check "version 1: metadata" "café 7 0.5 True [1,2]" "$(build/inspect "$scratch/v1.gguf" --json | python3 -c 'import json, sys; m = json.load(sys.stdin)["metadata"]; print(m["model_name"], m["layers"], m["rate"], m["yes"], m["list"])')"
    for name in f32 q8.half q8.any q8.odd q4.half q4.any q4.odd q8.big scalar; do build/inspect "$scratch/v1.gguf" --tensor $name --dump "$scratch/v1.$name" >/dev/null; done
    check "version 1: every value is the same" "" "$(python3 - "$scratch/v1.want" "$scratch/v1" 2>&1 <<'T'
import json, struct, sys
for name, values in json.load(open(sys.argv[1])):
    if open(sys.argv[2] + "." + name, "rb").read() != struct.pack("<%df" % len(values), *values): print(name)
T
)"
    check "version 1: info" "9 q4_0 q4.any  1000 x 70" "$(build/smq info "$scratch/v1.smq" --tensors | sed -n 's/^container .* \([0-9]*\) tensors$/\1/p; s/.*\(q4_0\) *\(q4.any .*\)  blocks of 64$/\1 \2/p' | tr '\n' ' ' | sed 's/ $//')"
    for n in 7 20 31 100 400 1500 5000 40000; do
        head -c $n "$scratch/v1.smq" >"$scratch/cut.smq"
        refuses "version 1: $n bytes of it" "truncated\|not a GGUF" build/smq unpack "$scratch/cut.smq" "$scratch/none.gguf"
    done
    refuses "a model cannot be version 1" "smq unpack" build/logits -m "$scratch/v1.smq" --tokens 1
    # A file that the other project wrote: each weight is q times the scale of its block, rounded once.
    sample=${SMOLQ_SHARED-../shared/data}/smq/benchmark-model.smq
    if [ -r "$sample" ]; then
        smq unpack "$sample" "$scratch/sample.gguf"
        check "version 1: a foreign file, every value" "29 tensors" "$(python3 - "$sample" "$scratch" 2>&1 <<'T'
import struct, subprocess, sys
b = open(sys.argv[1], "rb").read()
n, json_bytes = struct.unpack_from("<II", b, 16)
for i in range(n):
    at = 32 + json_bytes + 156 * i
    name, kind, rank, *rest = struct.unpack_from("<64sIi8iIQQQQ", b, at)
    name, dims, block, data, length, scales, scale_length = name.rstrip(b"\0").decode(), rest[:rank], *rest[8:]
    count = 1
    for d in dims: count *= d
    if kind == 10:
        q, s = struct.unpack_from("<%db" % count, b, data), struct.unpack_from("<%df" % (scale_length // 4), b, scales)
        want = b"".join(struct.pack("<f", q[k] * s[k // block]) for k in range(count))
    else: want = b[data:data + 4 * count]
    subprocess.run(["build/inspect", sys.argv[2] + "/sample.gguf", "--tensor", name, "--dump", sys.argv[2] + "/sample.f32"], stdout=subprocess.DEVNULL, check=True)
    if open(sys.argv[2] + "/sample.f32", "rb").read() != want: print(name, "differs")
print(n, "tensors")
T
)"
    else echo "skip version 1: a foreign file: no golden data"; fi
else
    echo "skip SMQ files of version 1: no jansson or no python3"
fi

# ---- inspect ----

tensor=blk.0.attn_q.weight
build/inspect $model --tensor $tensor --dump "$scratch/dump" >/dev/null
check "--dump writes f32" $((256 * 256 * 4)) "$(wc -c <"$scratch/dump" | tr -d ' ')"
build/inspect $model --tensor $tensor --dump - >"$scratch/dump2"
check "--dump - writes nothing else" "" "$(cmp "$scratch/dump" "$scratch/dump2" 2>&1)"
refuses "a tensor that is not there" "blk.99" build/inspect $model --tensor blk.99.attn_q.weight
build/inspect $model >"$scratch/glance"
for fact in 'family smollm3: 7.34 million parameters in 74 tensors' '8 layers, width 256, 4 heads of 64, 2 KV heads' 'gpt2 / llama-bpe, 4096 tokens' 'for a context of 512' \
    'this build can run it' 'q4_k          48       5373952       3022848   65 %       4.5000'; do
    check "at a glance: $fact" 1 "$(head -n 20 "$scratch/glance" | grep -c "$fact")"
done
if command -v python3 >/dev/null 2>&1; then
    check "inspect --json is JSON" "smollm3 8 4096 True" "$(build/inspect $model --json | python3 -c '
import json, sys
j = json.load(sys.stdin)
assert sum(t["tensors"] for t in j["types"].values()) == len(j["tensors"]) == j["n_tensors"]
print(j["family"], j["n_layer"], j["metadata"]["tokenizer.ggml.tokens"]["n"], j["runnable"])' 2>&1 | tail -n 1)"
    check "inspect --tensor --json is JSON" "256 0" "$(build/inspect $model --tensor output_norm.weight --json | python3 -c '
import json, sys
j = json.load(sys.stdin)
print(j["shape"][0], j["not_finite"])' 2>&1 | tail -n 1)"
    # A file of no family with a hostile key, text and numbers.
    python3 - "$scratch/hostile.gguf" <<'T'
import struct, sys
def text(b): return struct.pack("<Q", len(b)) + b
def pair(key, kind, value): return text(key) + struct.pack("<I", kind) + value
pairs = [pair(b"a\"\\\n\x1b[31m\xff", 8, text(b"\x00\xc3\x28\xed\xa0\x80\xf0\x9f\x98\x80\"\\")),
         pair(b"nan", 6, struct.pack("<f", float("nan"))), pair(b"inf", 12, struct.pack("<d", float("-inf"))),
         pair(b"big", 10, struct.pack("<Q", 2**64 - 1)), pair(b"least", 11, struct.pack("<q", -2**63)), pair(b"yes", 7, b"\x01"),
         pair(b"tenth", 6, struct.pack("<f", 0.1)),
         pair(b"list", 9, struct.pack("<IQ", 8, 3) + text(b"x") + text(b"") + text(b"\xfe")), pair(b"none", 9, struct.pack("<IQ", 4, 0))]
tensor = text(b"t\"\x07\xff") + struct.pack("<IQQIQ", 2, 2, 3, 0, 0)
header = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
header += b"\0" * (-len(header) % 32)
open(sys.argv[1], "wb").write(header + struct.pack("<6f", 1, 2, 3, 4, 5, float("inf")))
T
    check "hostile text becomes JSON" "18446744073709551615 -9223372036854775808 True 0.1 None 3 0 [2, 3] False" "$(build/inspect "$scratch/hostile.gguf" --json 2>&1 | python3 -c '
import json, sys
j = json.loads(sys.stdin.buffer.read().decode("utf-8", "strict"))
m = j["metadata"]
assert any("\x1b" in key and "\ufffd" in key for key in m), list(m)
print(m["big"], m["least"], m["yes"], m["tenth"], m["nan"], m["list"]["n"], m["none"]["n"], j["tensors"][0]["shape"], j["runnable"])' 2>&1 | tail -n 1)"
    check "hostile text reaches no terminal" "" "$(build/inspect "$scratch/hostile.gguf" 2>&1 | LC_ALL=C tr -d '\n\40-\176\200-\377' | od -An -c)"
    check "bench --json has its keys" "backend contexts control_gbps decode_gbps decode_tps depth device_bytes first_token_ms isa kv_bytes kv_gbps open_ms peak_rss_bytes prefill_tps threads upload_gbps" \
        "$(build/bench -m $model -p 4 -n 2 --json | python3 -c 'import json, sys; print(*sorted(json.load(sys.stdin)))' 2>&1 | tail -n 1)"
else
    for name in "inspect --json is JSON" "inspect --tensor --json is JSON" "hostile text becomes JSON" "hostile text reaches no terminal" "bench --json has its keys"; do
        echo "skip $name: no python3"
    done
fi

# ---- bench, perplexity ----

check "bench prints a row per thread count" "1 2" "$(echo $(build/bench -m $model -p 4 -n 2 -t 1,2 | sed -n 's/^cpu  *[a-z0-9]*  *\([0-9]*\)|.*/\1/p'))"
check "bench says what part of the control it reaches" 1 "$(build/bench -m $model -p 4 -n 2 -t 1 | grep -c ' % |')"
check "--isa caps" 1 "$(build/bench -m $model -p 4 -n 2 --isa ref --json | grep -c '"backend": "cpu", "isa": "ref", "threads": 1')"
check "bench with contexts deeper than the prompt" 1 "$(build/bench -m $model -p 4 -n 2 -t 1 -d 9 -b 3 --json | grep -c '"depth": 9, "contexts": 3')"
check "bench with contexts that begin" 1 "$(build/bench -m $model -p 4 -n 2 -t 1 -d 0 --json | grep -c '"depth": 1, "contexts": 1')"
refuses "bench without a context" "1 context" build/bench -m $model -b 0
check "bench without the cpu backend" 1 "$(build/bench -m $model -p 4 -n 2 -t 2 --backend ref --json | grep -c '"backend": "ref", "isa": "ref", "threads": 1')"
refuses "too many threads" "threads" build/generate -t 1000
printf 'Once upon a time there was a little girl who loved to play in the garden with her dog.' >"$scratch/text"
build/perplexity -m $model -f "$scratch/text" >"$scratch/out" 2>"$scratch/err"
check "perplexity and bits per byte" 2 "$(grep -c -E '^(perplexity|bits per byte) +[0-9.]+ over' "$scratch/out")"
check "every byte is predicted, after BOS" 86 "$(sed -n 's/^bits per byte .* over \([0-9]*\) bytes$/\1/p' "$scratch/out")"
check "a simple story is no surprise" yes "$(awk '/^bits per byte/ && $4 > 0.3 && $4 < 1.6 { print "yes" }' "$scratch/out")"
check "no progress bar but on a terminal" "" "$(cat "$scratch/err")"
: >"$scratch/empty"
build/perplexity -m $model -f "$scratch/text" --kl $model >"$scratch/kl"
check "no distance from itself" "1.00000 0.000000 0.000000 100.000" "$(awk '/^reference/ { printf "%s ", $NF } /^KL/ { printf "%s %s ", $2, $4 } /^same top/ { print $3 }' "$scratch/kl")"
check "and the same perplexity" "$(head -n 1 "$scratch/out")" "$(head -n 1 "$scratch/kl")"
build/perplexity -m "$scratch/q3.gguf" -f "$scratch/text" --kl $model >"$scratch/kl"
check "some distance from another" yes "$(awk '/^KL/ { print ($2 > 0.0001 && $2 < 0.2 && $4 >= $2 ? "yes" : "no") }' "$scratch/kl")"
refuses "an empty text" "too short" build/perplexity -m $model -f "$scratch/empty"
exit $failed
