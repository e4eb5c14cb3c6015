# make demo      a story from the bundled model          make asan        the tests under AddressSanitizer and UBSan
# make test      all tests, at most ten minutes          make fuzz        each fuzz target for SECONDS=60
# make test-long the full cross products                 make lint        plain lines, warnings of two compilers, shell
# make examples  the programs in build/                  make standalone  build/smolq_standalone.h, which needs no stb_ds
# make smolq.h   the header from its parts in src/       make install     to PREFIX=/usr/local, below DESTDIR
# make cuda      the CUDA backend for all GPUs, programs in build/cuda/     make gpu-test  tests and figures on a GPU, in ten minutes
#
# What is missing on a Debian machine is installed by tools/setup.sh; SMOLQ_NO_INSTALL=1 makes it only say what is missing.

CFLAGS     = -O2
TESTFLAGS  = -std=gnu99 -O2 -Wall -Wextra -Wno-unused-function
SANITIZE   = -std=gnu99 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZFLAGS  = -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
SECONDS    = 60
PREFIX     = /usr/local
VERSION    = $(shell sed -n 's/.*SMOLQ_VERSION_TEXT *"\(.*\)"/\1/p' src/api.h)

PARTS      = $(wildcard src/*.h src/*.c) tools/amalgamate.sh
EXAMPLES   = $(patsubst examples/%.c,build/%,$(wildcard examples/*.c))
WITH_CPU   = build/logits build/generate build/bench build/perplexity build/imatrix
TESTS      = $(patsubst tests/%,build/tests/%,$(basename $(wildcard tests/test_*.c tests/test_*.cpp)))
ASAN_TESTS = $(TESTS:build/tests/%=build/asan/%)
FUZZERS    = $(patsubst tests/%.c,build/fuzz/%,$(wildcard tests/fuzz_*.c))

all: examples
examples: $(EXAMPLES)

# Written anew beside the old one and moved, so that a broken part never leaves half a header.
smolq.h: $(PARTS)
	@mkdir -p build
	sh tools/amalgamate.sh >build/smolq.h.new
	mv build/smolq.h.new smolq.h

# Those that evaluate models link the CPU backend, compiled once for all of them; each says in its head how it is compiled alone.
build/smolq_cpu.o: smolq_cpu.c smolq.h | build/.ready
	$(CC) $(CFLAGS) -I. -c $< -o $@

$(WITH_CPU): build/%: examples/%.c examples/common.h smolq.h build/smolq_cpu.o | build/.ready
	$(CC) $(CFLAGS) -I. -DSMOLQ_WITH_CPU $< build/smolq_cpu.o -o $@ -lm -lpthread

build/%: examples/%.c examples/common.h smolq.h | build/.ready
	$(CC) $(CFLAGS) -I. $< -o $@ -lm

build/imatrix build/gguf: examples/output.h

# jansson reads the JSON of SMQ files of version 1; without it the program does all the rest.
JANSSON    = $(shell echo '\#include <jansson.h>' | $(CC) -E - >/dev/null 2>&1 && echo -DSMQ_WITH_JANSSON -ljansson)
build/smq: examples/smq.c examples/smq_v1.h examples/output.h examples/common.h smolq.h | build/.ready
	$(CC) $(CFLAGS) -I. $< -o $@ -lm $(JANSSON)
build/quantize: examples/quantize.c examples/output.h examples/mixes.h examples/common.h smolq.h | build/.ready
	$(CC) $(CFLAGS) -I. $< -o $@ -lm -lpthread

build/.ready: tools/setup.sh
	@mkdir -p build/tests build/asan build/fuzz
	@sh tools/setup.sh build
	@touch $@

demo: build/generate
	build/generate -p "Once upon a time" --seed 7 -n 200 --echo --stats

# A test that does not compile leaves no program; tests/run.sh counts that as a failure.
build/tests/%: tests/%.c $(wildcard tests/*.h) $(PARTS) smolq.h | build/.ready
	@rm -f $@
	$(CC) $(TESTFLAGS) -I. $< -o $@ -lm -lpthread

# The kernels as users compile them, once for all.
build/tests/test_cpu: tests/test_cpu.c $(wildcard tests/*.h) smolq.h build/smolq_cpu.o | build/.ready
	@rm -f $@
	$(CC) $(TESTFLAGS) -DTEST_CPU_LINKED -I. $< build/smolq_cpu.o -o $@ -lm -lpthread

build/asan/%: tests/%.c $(wildcard tests/*.h) $(PARTS) smolq.h | build/.ready
	@rm -f $@
	$(CC) $(SANITIZE) -I. $< -o $@ -lm -lpthread

# What rests on tests/cuda_shim.h is C++, as nvcc takes it.
build/tests/%: tests/%.cpp $(wildcard tests/*.h) $(PARTS) smolq.h | build/.ready
	@rm -f $@
	$(CXX) $(subst gnu99,gnu++17,$(TESTFLAGS)) -I. $< -o $@ -lm -lpthread

build/asan/%: tests/%.cpp $(wildcard tests/*.h) $(PARTS) smolq.h | build/.ready
	@rm -f $@
	$(CXX) $(subst gnu99,gnu++17,$(SANITIZE)) -I. $< -o $@ -lm -lpthread

build/tests/test_cpu_tiles build/asan/test_cpu build/asan/test_cpu_tiles: smolq_cpu.c tests/test_cpu.c
build/tests/test_far build/asan/test_far: tests/test_bits.c

# The CUDA backend on the shim: C++ beside a test in C.
build/tests/smolq_cuda.o: TEST_CXX = $(CXX) $(subst gnu99,gnu++17,$(TESTFLAGS))
build/asan/smolq_cuda.o:  TEST_CXX = $(CXX) $(subst gnu99,gnu++17,$(SANITIZE))
build/tests/smolq_cuda.o build/asan/smolq_cuda.o: smolq_cuda.cu tests/cuda_shim.h smolq.h | build/.ready
	$(TEST_CXX) -x c++ -DSMOLQ_CUDA_SHIM -I. -include tests/cuda_shim.h -c $< -o $@

build/tests/test_cuda: tests/test_cuda.c build/tests/smolq_cuda.o $(wildcard tests/*.h) $(PARTS) smolq.h | build/.ready
	@rm -f $@
	$(CC) $(TESTFLAGS) -I. -c $< -o $@.o
	$(CXX) $@.o build/tests/smolq_cuda.o -o $@ -lm -lpthread
build/asan/test_cuda: tests/test_cuda.c build/asan/smolq_cuda.o $(wildcard tests/*.h) $(PARTS) smolq.h | build/.ready
	@rm -f $@
	$(CC) $(SANITIZE) -I. -c $< -o $@.o
	$(CXX) $(SANITIZE:-std=gnu99=) $@.o build/asan/smolq_cuda.o -o $@ -lm -lpthread

# The CUDA backend for all GPUs since sm_75, and the programs that run models: linked by nvcc, which adds the CUDA runtime.
NVCC       = $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc) nvcc)
CUDA_ARCHS = 75 80 86 89 90
CUDA_CODE  = -Xfatbin -compress-all $(foreach sm,$(CUDA_ARCHS),-gencode arch=compute_$(sm),code=sm_$(sm)) -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS))
cuda: $(WITH_CPU:build/%=build/cuda/%)

nvcc-is-there:
	@command -v $(NVCC) >/dev/null 2>&1 || { echo "nvcc is missing: smolq_cuda.cu needs the CUDA toolkit, on PATH or in /usr/local/cuda" >&2; exit 1; }

build/smolq_cuda.o: smolq_cuda.cu smolq.h | build/.ready nvcc-is-there
	$(NVCC) -O2 -I. $(CUDA_CODE) -c $< -o $@

build/cuda/bench_cuda.o: examples/bench_cuda.cu | build/.ready nvcc-is-there
	@mkdir -p build/cuda
	$(NVCC) -O2 $(CUDA_CODE) -c $< -o $@

build/cuda/%.o: examples/%.c examples/common.h smolq.h | build/.ready nvcc-is-there
	@mkdir -p build/cuda
	$(CC) $(CFLAGS) -I. -DSMOLQ_WITH_CPU -DSMOLQ_WITH_CUDA -c $< -o $@

build/cuda/bench: build/cuda/bench_cuda.o
build/cuda/%: build/cuda/%.o build/smolq_cpu.o build/smolq_cuda.o
	$(NVCC) $^ -o $@ -lm -lpthread

gpu-test:
	@sh tests/gpu.sh

test-programs: $(TESTS)
asan-programs: $(ASAN_TESTS)

test: build/.ready
	@sh tools/setup.sh test
	-@$(MAKE) --no-print-directory -k -j2 test-programs examples
	@sh tests/run.sh build/tests

test-long:
	@SMOLQ_LONG=1 $(MAKE) --no-print-directory test

asan: build/.ready
	-@$(MAKE) --no-print-directory -k asan-programs
	@sh tests/run.sh build/asan

# The first comment of a fuzz target says how it is built by hand; a corpus in tests/corpus/NAME is read, never written.
build/fuzz/%: tests/%.c $(PARTS) smolq.h | build/.ready
	clang $(FUZZFLAGS) -I. $< -o $@ -lm

fuzz: build/.ready
	@sh tools/setup.sh test
	@$(MAKE) --no-print-directory $(FUZZERS)
	@for f in $(notdir $(FUZZERS)); do \
	    mkdir -p build/fuzz/corpus/$$f; kept=tests/corpus/$${f#fuzz_}; [ -d $$kept ] || kept=; \
	    echo "$$f: $(SECONDS) s"; \
	    build/fuzz/$$f -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix=build/fuzz/$$f- \
	        build/fuzz/corpus/$$f $$kept >build/fuzz/$$f.log 2>&1 || { tail -n 40 build/fuzz/$$f.log; exit 1; }; \
	    sed -n 's/^stat::number_of_executed_units: */  runs: /p' build/fuzz/$$f.log; \
	done

lint: smolq.h
	@sh tools/setup.sh lint
	! grep -n -E '	| $$' src/*.[ch] smolq_cpu.c smolq_cuda.cu examples/*.[ch] examples/*.cu tests/*.[ch] tests/*.cpp tests/*.sh tools/*.sh
	for f in tools/*.sh tests/*.sh; do sh -n $$f || exit 1; done
	for cc in gcc clang; do for f in examples/*.c; do \
	    $$cc -std=gnu11 -fsyntax-only -Wall -Wextra -Werror -I. -DSMOLQ_WITH_CPU -DSMOLQ_WITH_CUDA $$f || exit 1; done; done
	for cc in gcc clang; do for std in c99 c11 c17 c++17; do \
	    case $$std in c++*) as=c++;; *) as=c;; esac; \
	    echo '#include "smolq.h"' | $$cc -x $$as -std=$$std -fsyntax-only -DSMOLQ_IMPLEMENTATION \
	        -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -I. - || exit 1; done; done

standalone: build/smolq_standalone.h
build/smolq_standalone.h: $(PARTS) | build/.ready
	sh tools/amalgamate.sh --standalone >$@.new
	mv $@.new $@

# The backends are sources that users compile into their programs: pkg-config --variable=cpu smolq says where the one for CPUs is, --variable=cuda the other.
install: smolq.h
	mkdir -p $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/share/smolq $(DESTDIR)$(PREFIX)/share/pkgconfig
	cp smolq.h $(DESTDIR)$(PREFIX)/include/smolq.h
	cp smolq_cpu.c smolq_cuda.cu $(DESTDIR)$(PREFIX)/share/smolq/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' smolq.pc.in >$(DESTDIR)$(PREFIX)/share/pkgconfig/smolq.pc
	chmod 644 $(DESTDIR)$(PREFIX)/include/smolq.h $(DESTDIR)$(PREFIX)/share/smolq/smolq_cpu.c $(DESTDIR)$(PREFIX)/share/smolq/smolq_cuda.cu $(DESTDIR)$(PREFIX)/share/pkgconfig/smolq.pc

clean:
	rm -rf build

.PHONY: all examples demo test test-long cuda gpu-test nvcc-is-there test-programs asan asan-programs fuzz lint standalone install clean
