#!/usr/bin/env python3
"""nvcc_gate.py FOLDER [FILE.cu ...]: what ptxas makes of every kernel of kernels/cuda, for each architecture.

Compiles each file for sm_90a, sm_80 and sm_100, two at a time, prints a line per kernel and ends with `N passed, N failed`.
A kernel fails with more than 128 registers (sm_80, and kernels that compute more than they read: 168), any spill or more than 227 KB of static shared memory; a file that does not
compile, with a warning or without a kernel, fails once per architecture.  What ptxas said is kept under FOLDER, and used again
while nothing that the file includes, nor the compiler, is newer.  NVCC names the compiler; run in the root of the sources."""
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys

ARCHITECTURES = ("90a", "80", "100")
REGISTERS = {"90a": 128, "80": 168, "100": 128}  # sm_80 has to run what the others are tuned for, without spilling
COMPUTES = re.compile("attend_rows")  # prefill: three blocks of 128 threads fill a multiprocessor
SHARED_BYTES = 227 << 10
MANGLED = re.compile(r"Compiling entry function '(\S+)' for")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def is_fresh(log, depends, nvcc):
    """Whether the log is newer than the compiler, this file and everything that make's rule in `depends` names."""
    try:
        with open(depends) as f:
            needed = f.read().split(":", 1)[1].replace("\\\n", " ").split()
        kept = os.stat(log).st_mtime_ns
        return all(os.stat(path).st_mtime_ns < kept for path in needed + [nvcc, os.path.abspath(__file__)])
    except (OSError, IndexError):
        return False


def compiled(source, arch, folder, nvcc):
    """What the compiler said of one file for one architecture, and whether it succeeded."""
    stem = os.path.join(folder, os.path.splitext(os.path.basename(source))[0] + ".sm_" + arch)
    log, depends = stem + ".log", stem + ".d"
    if is_fresh(log, depends, nvcc):
        with open(log) as f:
            return f.read(), True
    if os.path.exists(log):
        os.remove(log)
    command = [nvcc, "-std=c++17", "-I.", "-O3", "-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra", "-Xptxas", "-v",
               "-gencode", f"arch=compute_{arch},code=sm_{arch}", "-MMD", "-MF", depends, "-cubin", "-o", stem + ".cubin", source]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode == 0:
        with open(log + ".new", "w") as f:
            f.write(run.stdout)
        os.replace(log + ".new", log)
    return run.stdout, run.returncode == 0


def number(pattern, text):
    """The sum of all numbers that the pattern names; 0 where it does not occur."""
    return sum(int(n) for match in pattern.finditer(text) for n in match.groups())


def kernels(text):
    """(name, registers, spill bytes, static shared bytes) of each kernel in ptxas's words."""
    parts = MANGLED.split(text)
    for name, said in zip(parts[1::2], parts[2::2]):
        if not USED.search(said):
            raise ValueError(f"ptxas says nothing of the registers of {name}:\n{said}")
        yield name, number(USED, said), number(SPILLS, said), number(SHARED, said)


def plain_names(names):
    """Without C++ mangling, where c++filt is there."""
    if not names or not shutil.which("c++filt"):
        return {name: name for name in names}
    run = subprocess.run(["c++filt", "-p"], input="\n".join(names), stdout=subprocess.PIPE, text=True, check=True)
    return dict(zip(names, run.stdout.splitlines()))


def judge(results):
    """Prints the table; returns how many passed and failed."""
    rows, complaints = [], []
    for source, arch, text, ok in results:
        found = list(kernels(text)) if ok else []
        if not found:
            rows.append((os.path.basename(source), "sm_" + arch, "-", "-", "-", "FAIL"))
            complaints.append(f"{source} for sm_{arch}: " + ("no kernel in it" if ok else "does not compile") + f"\n{text}")
        for name, registers, spills, shared in found:
            good = registers <= (168 if COMPUTES.search(name) else REGISTERS[arch]) and spills == 0 and shared <= SHARED_BYTES
            rows.append((name, "sm_" + arch, registers, spills, shared, "PASS" if good else "FAIL"))
    plain = plain_names(sorted({row[0] for row in rows}))
    width = max([len(name) for name in plain.values()] + [6])
    print(f"{'kernel':{width}} {'arch':>7} {'registers':>9} {'spill bytes':>11} {'static shared bytes':>19}")
    for name, *rest, verdict in sorted(rows, key=lambda row: (plain[row[0]], ARCHITECTURES.index(row[1][3:]))):
        print(f"{plain[name]:{width}} {rest[0]:>7} {rest[1]:>9} {rest[2]:>11} {rest[3]:>19} {verdict}")
    for complaint in complaints:
        print(complaint, end="")
    failed = sum(row[-1] == "FAIL" for row in rows)
    return len(rows) - failed, failed


def main(folder, sources):
    nvcc = shutil.which(os.environ.get("NVCC") or "nvcc")
    if not nvcc:
        print("cuda-check: no nvcc, skipped")
        return 0
    os.makedirs(folder, exist_ok=True)
    tasks = [(source, arch) for source in sources or sorted(glob.glob("kernels/cuda/*.cu")) for arch in ARCHITECTURES]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        said = pool.map(lambda task: compiled(*task, folder, nvcc), tasks)
        results = [(*task, *answer) for task, answer in zip(tasks, said)]
    passed, failed = judge(results)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: nvcc_gate.py FOLDER [FILE.cu ...]")
    sys.exit(main(sys.argv[1], sys.argv[2:]))
