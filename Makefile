# make                 build/radar and build/libradar.a
# make demo            fetch the demo model, decode a long text on 2 ranks with Radar and dense attention, compare
# make test            everything that proves it right, in some 10 minutes (unit, MPI, command line, golden data)
# make check-long      the quality figures of README.md on 8k tokens (tens of minutes)
# make peers           speed beside llama.cpp on this machine (builds it under build/peers)
# make report          the experiments of the Radar paper and of its reviewers: build/paper/report.html, in under 25 minutes
# make check-report    the page of radar report in headless Chromium, on a phone and a desk
# make soak            fuzzing, 10 minutes (FUZZ_SECONDS=600), and CUDA kernels under 20 times as many schedules;   make sanitize-unit   unit tests under ASan and UBSan
# make cuda-check      registers, spills and shared memory of every CUDA kernel, where nvcc is; NVCC=nvcc
# make gpu-kit         build/gpu-kit: what tests/gpu.sh needs on a machine with a GPU where nothing can be built
# make deps            the Debian packages for all of it;   make model   only the demo model, into build/models
# make install         PREFIX=/usr/local DESTDIR=: radar, libradar.a, radar.h, radar.pc
# make format          clang-format in place;   make check-format   only look
# make bench           speed: the kernels, then prefill and decode to 32k, in under 25 minutes;   make bench-long   to a million tokens
# make compile_commands.json   for clangd (needs bear);   make clean
# Settings: CUDA=1 (GPUs, with nvcc: build/radar)  MPI=0 (one rank, no MPI)  STATIC=1 (libraries linked in)
#           CC=gcc|clang-14  V=1 (show commands)  SAN=address,undefined  DEPS=0 (install nothing, print what is missing)  NP="1 2 3"

CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
V ?= 0
SAN ?=
CUDA ?= 0
MPI ?= 1
STATIC ?= 0
DEPS ?= 1
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 600
Q := $(if $(filter 1,$(V)),,@)
export DEPS V UNIT_SECONDS JOBS MPI STATIC CUDA NVCC

VARIANT := $(if $(filter 1,$(CUDA)),cuda,cpu)$(if $(filter-out gcc,$(notdir $(CC))),-$(notdir $(CC)))$(if $(SAN),-san)$(if $(filter 0,$(MPI)),-nompi)$(if $(filter 1,$(STATIC)),-static)
O := build/$(VARIANT)
MODEL := build/models/SmolLM2-135M-Instruct.Q4_1.gguf

# What the machine offers is probed once per variant, by compiling; the file is kept.  Goals that only start others do without.
STARTERS := demo test report gpu-kit check-long check-report peers bench bench-long soak sanitize-unit cuda-check deps model format check-format clean compile_commands.json
ifneq ($(filter-out $(STARTERS),$(or $(MAKECMDGOALS),all)),)
include $O/config.mk
endif

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wvla
OPT := -O3 -fno-math-errno -fno-trapping-math -ffp-contract=off
CFLAGS ?= -g
CPPFLAGS += -I. -D_GNU_SOURCE
SAN_FLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
ALL_CFLAGS = -std=c11 $(OPT) $(WARN) $(OPENMP_FLAG) $(CPPFLAGS) $(PKG_CFLAGS) $(MPI_CFLAGS) $(SAN_FLAGS) $(CFLAGS)
ALL_LIBS = $(LDFLAGS) $(SAN_FLAGS) $(OPENMP_FLAG) $(PKG_LIBS) $(CUDA_LIBS) $(MPI_LIBS) -ldl -lm

# Kernels for the GPUs of compute capability 8.0 (as it is and newer ones by translation at start-up), 9.0 and 10.0.
NVCC := $(or $(NVCC),$(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc) nvcc))
CUDA_ARCH ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a -gencode arch=compute_100,code=[sm_100,compute_100]
ifeq ($(CUDA),1)
CUDA_HOME := $(patsubst %/bin/nvcc,%,$(realpath $(shell command -v $(NVCC))))
CPPFLAGS += -DRADAR_CUDA -isystem $(CUDA_HOME)/include
CUDA_LIBS := $(firstword $(wildcard $(CUDA_HOME)/lib64/libcudart_static.a $(CUDA_HOME)/lib/libcudart_static.a) -lcudart_static) -lpthread -lrt -lstdc++
endif
ifeq ($(MPI),0)
CPPFLAGS += -DRADAR_NO_MPI
endif

LIB_SRC := $(wildcard runtime/*.c runtime/*/*.c kernels/*.c kernels/cpu/*.c parallel/*.c)
CMD_SRC := $(wildcard launch/*.c launch/*/*.c)
ifeq ($(MPI),0)
LIB_SRC := $(filter-out parallel/comm_mpi.c,$(LIB_SRC))
CMD_SRC := $(filter-out launch/world_mpi.c,$(CMD_SRC))
endif
UNIT_SRC := $(wildcard tests/unit/test_*.c)
MPI_SRC := $(wildcard tests/mpi/test_*.c)
BENCH_SRC := $(wildcard tests/bench/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$O/%.o)
ifeq ($(CUDA),1)
LIB_OBJ += $(patsubst %,$O/%.o,$(basename $(wildcard kernels/cuda/*.c))) $(patsubst %.cu,build/nvcc/%.o,$(wildcard kernels/cuda/*.cu))
endif
CMD_OBJ := $(CMD_SRC:%.c=$O/%.o)
UNIT := $(UNIT_SRC:tests/unit/%.c=$O/%)
MPI_TESTS := $(MPI_SRC:tests/mpi/%.c=$O/mpi/%)
BENCHES := $(BENCH_SRC:tests/bench/%.c=$O/bench/%)
SIMT_SRC := $(wildcard tests/simt/test_*.cc)
SIMT := $(SIMT_SRC:tests/simt/%.cc=$O/simt/%)

.PHONY: again all programs test-programs simt-programs gpu-programs fake-programs gpu-kit cuda-check unit bench-kernels bench bench-long test demo report check-long check-report peers soak sanitize-unit deps model install format \
        check-format clean
all: programs $(if $(filter cpu cuda,$(VARIANT)),build/radar build/libradar.a)
programs: $O/radar $O/libradar.a
test-programs: $(UNIT) $(MPI_TESTS) $(BENCHES)
simt-programs: $(SIMT) $O/fake/radar $O/fake/libnccl.so.2

# ---- building ----

build/radar build/libradar.a: build/%: $O/% $(if $(wildcard build/.$(VARIANT)),,again)
	$(Q)cp -f $< $@ && rm -f build/.cpu build/.cuda && touch build/.$(VARIANT)
again: # of another variant

$O/config.mk: launch/probe.sh
	@mkdir -p $(@D)
	@MPI=$(MPI) STATIC=$(STATIC) launch/probe.sh "$(CC)" $O > $@.new && mv $@.new $@

$O/%.o: %.c $O/config.mk
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC $<")
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
$O/launch/bench/text.o: launch/demo/text.txt
build/nvcc/%.o: %.cu
	@mkdir -p $(@D)
	$(if $(Q),@echo "  NVCC $<")
	$(Q)$(NVCC) -std=c++17 -O3 $(CUDA_ARCH) -I. -Xcompiler -Wall,-Wextra -MMD -MF $(@:.o=.d) -c -o $@ $<
$O/libradar.a: $(LIB_OBJ)
	$(Q)rm -f $@ && ar rcs $@ $^
# The command without its main, so that unit tests can reach its parts.
$O/liblaunch.a: $(filter-out $O/launch/main.o,$(CMD_OBJ))
	$(Q)rm -f $@ && ar rcs $@ $^
$O/radar: $O/launch/main.o $O/liblaunch.a $O/libradar.a
	$(if $(Q),@echo "  LD $@")
	$(Q)$(CC) -o $@ $^ $(ALL_LIBS)
$O/test_%: $O/tests/unit/test_%.o $O/liblaunch.a $O/libradar.a
	$(Q)$(CC) -o $@ $^ -lcmocka $(ALL_LIBS)
$O/mpi/%: $O/tests/mpi/%.o $O/libradar.a
	@mkdir -p $(@D)
	$(Q)$(CC) -o $@ $^ $(ALL_LIBS)
# NCCL for tests without a GPU.
$O/fake/libnccl.so.2: tests/simt/fake/nccl.c tests/simt/fake/nccl.h $O/config.mk
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -fPIC -shared -o $@ $< $(MPI_LIBS)
$O/mpi/test_comm_device: | $O/fake/libnccl.so.2
# And cuBLAS.
$O/fake/libcublas.so.13: tests/simt/fake/cublas.c tests/simt/fake/cublas.h $O/config.mk
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -fPIC -shared -o $@ $<
$O/bench/%: $O/tests/bench/%.o $O/libradar.a
	@mkdir -p $(@D)
	$(Q)$(CC) -o $@ $^ $(ALL_LIBS)
# CUDA kernels as C++ on the CPU: a mistake of theirs shall not pass for a wrong number, so always under sanitizers.
SIMT_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all
$O/tests/simt/%.o: tests/simt/%.cc $O/config.mk
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CXX $<")
	$(Q)$(CXX) -std=c++17 -O1 -g -Wall -Wextra -Werror -Wno-unknown-pragmas $(SIMT_FLAGS) $(CPPFLAGS) -MMD -MP -c -o $@ $<
$O/simt/%: $O/tests/simt/%.o $O/tests/simt/simt.o $O/libradar.a
	@mkdir -p $(@D)
	$(Q)$(CXX) $(SIMT_FLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) -lcmocka $(ALL_LIBS)
# The host's part of CUDA, under the same sanitizers, with a runtime whose device is the process.
FAKE_SRC := $(wildcard tests/simt/fake/*.cc)
CUDA_C := $(wildcard kernels/cuda/*.c)
CUDA_QUEUE := kernels/cuda/device.c $(wildcard kernels/cuda/queue*.c)
FAKE_FLAGS := -Itests/simt/fake
$O/tests/simt/test_cuda_blas.o $O/tests/simt/test_cuda_queue.o $(FAKE_SRC:%.cc=$O/%.o): CPPFLAGS += $(FAKE_FLAGS)
$O/simt/test_cuda_queue $O/simt/test_cuda_blas: $(FAKE_SRC:%.cc=$O/%.o) $(CUDA_QUEUE:%.c=$O/simt/%.o)
$O/simt/test_cuda_blas: $O/simt/kernels/cuda/blas.o | $O/fake/libcublas.so.13
$O/simt/test_cuda_blas: LDFLAGS += -rdynamic
$O/simt/%.o: %.c $O/config.mk
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC $<")
	$(Q)$(CC) -std=c11 -O1 -g $(WARN) $(FAKE_FLAGS) $(CPPFLAGS) $(PKG_CFLAGS) $(SIMT_FLAGS) -MMD -MP -c -o $@ $<
# All of it for whole models: no sanitizers, which take too long.
FAKE_OBJ := $(addprefix $O/fake/,$(CUDA_C:.c=.o) $(patsubst %.cu,%.o,$(wildcard kernels/cuda/*.cu)) $(FAKE_SRC:.cc=.o) tests/simt/simt.o)
FAKE_CXX = $(CXX) -std=c++17 -O2 -g -Wall -Wextra -Werror -Wno-unknown-pragmas $(FAKE_FLAGS) $(CPPFLAGS) -MMD -MP
$O/fake/%.o: %.c $O/config.mk
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC $<")
	$(Q)$(CC) -std=c11 $(OPT) -g $(WARN) $(OPENMP_FLAG) $(FAKE_FLAGS) $(CPPFLAGS) $(PKG_CFLAGS) $(MPI_CFLAGS) -MMD -MP -c -o $@ $<
$O/fake/%.o: %.cu $O/config.mk
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CXX $<")
	$(Q)$(FAKE_CXX) -include tests/simt/dev.h -c -o $@ -x c++ $<
$O/fake/%.o: %.cc $O/config.mk
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CXX $<")
	$(Q)$(FAKE_CXX) -c -o $@ $<
$O/fake/libradar_cuda.a: $(FAKE_OBJ)
	$(Q)rm -f $@ && ar rcs $@ $^
$O/fake/kernels/backend.o: CPPFLAGS += -DRADAR_CUDA
$O/fake/radar: $O/launch/main.o $O/fake/kernels/backend.o $O/liblaunch.a $O/fake/libradar_cuda.a $O/libradar.a
	$(if $(Q),@echo "  LD $@")
	$(Q)$(CXX) -rdynamic -o $@ $(filter %.o,$^) $(filter %.a,$^) $(filter %libradar.a,$^) $(ALL_LIBS)
# What is proven on a GPU (tests/gpu.sh), and rehearsed on the fake.
GPU_PROGRAMS := ops local bench
GPU_SRC := $(wildcard tests/gpu/*.c)
GPU_OPS := $(patsubst %.c,$O/%.o,$(wildcard tests/gpu/ops*.c tests/gpu/*twin.c))
GPU_LOCAL := $O/tests/gpu/local.o
GPU_BENCH := $(patsubst %.c,$O/%.o,$(wildcard tests/gpu/bench*.c))
$O/gpu/ops $O/fake/gpu/ops: $(GPU_OPS)
$O/gpu/local $O/fake/gpu/local: $(GPU_LOCAL)
$O/gpu/bench $O/fake/gpu/bench: $(GPU_BENCH)
$O/gpu/bench: build/nvcc/tests/gpu/synth.o
$O/fake/gpu/bench: $O/fake/tests/gpu/synth.o
$O/gpu/%: $O/libradar.a
	@mkdir -p $(@D)
	$(if $(Q),@echo "  LD $@")
	$(Q)$(CC) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(ALL_LIBS)
$O/fake/gpu/%: $O/fake/kernels/backend.o $O/fake/libradar_cuda.a $O/libradar.a
	@mkdir -p $(@D)
	$(if $(Q),@echo "  LD $@")
	$(Q)$(CXX) -rdynamic -o $@ $(filter %.o,$^) $(filter %.a,$^) $(filter %libradar.a,$^) $(ALL_LIBS)
gpu-programs: $(GPU_PROGRAMS:%=$O/gpu/%) $O/radar
fake-programs: $(GPU_PROGRAMS:%=$O/fake/gpu/%) $O/fake/radar
.SECONDARY:

unit: $(UNIT)
	@tests/run_all.sh $(UNIT)
cuda-check:
	@tests/simt/nvcc_gate.py $O/cuda

# ---- what a person types: each does the set-up it needs, then builds in a make of its own that sees it ----

AGAIN := @$(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))
deps:
	@launch/deps.sh build test demo check fuzz
model:
	@launch/fetch_model.sh $(MODEL)
demo:
	@launch/deps.sh build demo
	$(AGAIN) all
	@launch/fetch_model.sh $(MODEL)
	@launch/demo.sh $(MODEL)
test:
	@launch/deps.sh build demo test
	$(AGAIN) all test-programs simt-programs fake-programs
	@launch/fetch_model.sh $(MODEL)
	@BUILD=$O RADAR=$O/radar tests/run_all.sh $(UNIT) -- "tests/simt/run.sh $(SIMT)" "tests/mpi/run.sh $O" $(wildcard tests/mpi/*.t tests/cli/*.t tests/gpu/*.t)
gpu-kit:
	@launch/deps.sh build
	$(AGAIN) CUDA=1 MPI=0 STATIC=1 gpu-programs
	@tests/gpu/kit.sh build/cuda-nompi-static build/gpu-kit
sanitize-unit:
	@launch/deps.sh build demo test
	@launch/fetch_model.sh $(MODEL)
	$(AGAIN) UNIT_SECONDS=1500 JOBS=$(shell nproc) SAN=address,undefined unit
report:
	@launch/deps.sh build demo test
	$(AGAIN) all
	@launch/fetch_model.sh $(MODEL)
	@tests/bench/paper.sh build/paper
check-long:
	@launch/deps.sh build demo test
	$(AGAIN) all
	@launch/fetch_model.sh $(MODEL)
	@tests/check_long.sh build/radar $(MODEL)
check-report:
	$(AGAIN) all
	@tests/bench/check_report.sh build/radar
bench-kernels: $(BENCHES)
	@set -e; for b in $(BENCHES); do echo "== $$b"; $$b; done
bench:
	@launch/deps.sh build demo test
	$(AGAIN) all bench-kernels
	@launch/fetch_model.sh $(MODEL)
	@tests/bench/speed.sh short build/bench
bench-long:
	@launch/deps.sh build demo
	$(AGAIN) all
	@launch/fetch_model.sh $(MODEL)
	@tests/bench/speed.sh long build/bench
peers:
	@launch/deps.sh build demo
	$(AGAIN) all
	@launch/fetch_model.sh $(MODEL)
	python3 tests/peers/llama_cpp.py $(PEERS)
soak:
	@launch/deps.sh build fuzz
	$(AGAIN) --silent CC=clang-14 build/cpu-clang-14/config.mk
	@tests/fuzz/run.sh $(FUZZ_SECONDS)
	$(AGAIN) simt-programs
	@SIMT_TIMES=20 UNIT_SECONDS=3600 tests/simt/run.sh $(SIMT)

# ---- the rest ----

# radar.h stands alone beside the list of status codes, whose place in the tree it names.
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 755 $O/radar $(DESTDIR)$(PREFIX)/bin/radar
	install -m 644 $O/libradar.a $(DESTDIR)$(PREFIX)/lib/libradar.a
	sed 's|"runtime/status.h"|"radar_status.h"|' runtime/radar.h > $(DESTDIR)$(PREFIX)/include/radar.h
	install -m 644 runtime/status.h $(DESTDIR)$(PREFIX)/include/radar_status.h
	printf '%s\n' 'Name: radar' 'Description: decoding over a key/value cache sharded across MPI ranks' \
	  "Version: $$(sed -n 's/^#define RADAR_VERSION "\(.*\)"/\1/p' runtime/radar.h)" \
	  'Cflags: -I$(PREFIX)/include $(MPI_CFLAGS)' 'Libs: -L$(PREFIX)/lib -lradar $(ALL_LIBS)' \
	  > $(DESTDIR)$(PREFIX)/lib/pkgconfig/radar.pc

FORMATTED = $(shell find runtime kernels parallel launch tests -regex '.*\.\(c\|h\|cu\|cc\)')
CLANG_FORMAT ?= $(or $(shell command -v clang-format-14),clang-format)
format:
	$(CLANG_FORMAT) -i $(FORMATTED)
check-format:
	@$(CLANG_FORMAT) --dry-run -Werror $(FORMATTED)
compile_commands.json:
	rm -rf $O && bear -- $(MAKE) all
clean:
	rm -rf build/cpu* build/cuda* build/nvcc build/fuzz build/radar build/libradar.a

-include $(LIB_OBJ:.o=.d) $(CMD_OBJ:.o=.d) $(patsubst %.c,$O/%.d,$(UNIT_SRC) $(MPI_SRC) $(BENCH_SRC) $(GPU_SRC)) $(SIMT_SRC:%.cc=$O/%.d) $O/tests/simt/simt.d \
         $(FAKE_SRC:%.cc=$O/%.d) $(CUDA_QUEUE:%.c=$O/simt/%.d) $O/simt/kernels/cuda/blas.d $(FAKE_OBJ:.o=.d)
