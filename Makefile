# make                 build/radar and build/libradar.a
# make demo            fetch the demo model, decode a long text on 2 ranks with Radar and dense attention, compare
# make test            everything that proves it right, in under 10 minutes (unit, MPI, command line, golden data)
# make check-long      the quality figures of README.md on 8k tokens (tens of minutes)
# make peers           speed beside llama.cpp on this machine (builds it under build/peers)
# make soak            longer runs: fuzzing
# make format          clang-format in place;  make check-format: only look
# make compile_commands.json   for clangd (needs bear);   make clean
# Settings: CC=gcc|clang  V=1 (show commands)  SAN=address,undefined  DEPS=0 (install nothing, print what is missing)  NP="1 2 3"

CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
V ?= 0
SAN ?=
DEPS ?= 1
Q := $(if $(filter 1,$(V)),,@)

VARIANT := cpu$(if $(filter-out gcc,$(notdir $(CC))),-$(notdir $(CC)))$(if $(SAN),-san)
O := build/$(VARIANT)

PKGS := jansson libpcre2-8 libutf8proc libxxhash
MPI_CFLAGS = $(patsubst -I%,-isystem %,$(shell pkg-config --cflags ompi-c 2>/dev/null || mpicc --showme:compile))
MPI_LIBS = $(shell pkg-config --libs ompi-c 2>/dev/null || mpicc --showme:link)
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS))
PKG_LIBS = $(shell pkg-config --libs $(PKGS))

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wvla
OPT := -O3 -fno-math-errno -fno-trapping-math -ffp-contract=off
CFLAGS ?= -g
CPPFLAGS += -I. -D_GNU_SOURCE
SAN_FLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
ALL_CFLAGS = -std=c11 $(OPT) $(WARN) -fopenmp $(CPPFLAGS) $(PKG_CFLAGS) $(MPI_CFLAGS) $(SAN_FLAGS) $(CFLAGS)
ALL_LIBS = $(LDFLAGS) $(SAN_FLAGS) -fopenmp $(PKG_LIBS) $(MPI_LIBS) -lm

LIB_SRC := $(wildcard runtime/*.c runtime/policy/*.c kernels/*.c kernels/cpu/*.c parallel/*.c)
CMD_SRC := $(wildcard launch/*.c)
UNIT_SRC := $(wildcard tests/unit/test_*.c)
LIB_OBJ := $(LIB_SRC:%.c=$O/%.o)
CMD_OBJ := $(CMD_SRC:%.c=$O/%.o)
UNIT := $(UNIT_SRC:tests/unit/%.c=$O/%)

.PHONY: all unit clean format check-format
all: build/radar build/libradar.a

build/radar: $O/radar
	$(Q)cp -f $< $@
build/libradar.a: $O/libradar.a
	$(Q)cp -f $< $@

$O/%.o: %.c
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC $<")
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
$O/libradar.a: $(LIB_OBJ)
	$(Q)rm -f $@ && ar rcs $@ $^
$O/radar: $(CMD_OBJ) $O/libradar.a
	$(if $(Q),@echo "  LD $@")
	$(Q)$(CC) -o $@ $^ $(ALL_LIBS)
$O/test_%: $O/tests/unit/test_%.o $O/libradar.a
	$(Q)$(CC) -o $@ $^ -lcmocka $(ALL_LIBS)
.SECONDARY:

unit: $(UNIT)
	@set -e; for t in $(UNIT); do $$t; done

FORMATTED = $(shell git ls-files '*.c' '*.h')
format:
	clang-format -i $(FORMATTED)
check-format:
	clang-format --dry-run -Werror $(FORMATTED)
clean:
	rm -rf build/cpu* build/radar build/libradar.a

-include $(LIB_OBJ:.o=.d) $(CMD_OBJ:.o=.d) $(UNIT_SRC:%.c=$O/%.d)
