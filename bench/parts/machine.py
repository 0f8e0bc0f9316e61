# SPDX-License-Identifier: MIT
"""Where and with what the figures were made."""
import os
import re
import subprocess


def first_line(*argv):
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
    except OSError:
        return "not there"
    return done.stdout.splitlines()[0].strip() if done.stdout else "not there"


def package(name):
    version = first_line("dpkg-query", "-W", "-f=${Version}", name)
    return version if re.match(r"\d", version) else "not there"


def read(path, default=""):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return default


def cpu():
    found = re.search(r"^model name\s*:\s*(.*)$", read("/proc/cpuinfo"), re.M)
    return found.group(1) if found else os.uname().machine


def describe(binary):
    memory = int(re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo")).group(1)) / 2**20
    problems = "/sys/devices/system/cpu/vulnerabilities/"
    return {
        "cpu": f"{cpu()}, {len(os.sched_getaffinity(0))} used of {os.cpu_count()}",
        "memory": f"{memory:.1f} GiB",
        "kernel": f"{os.uname().release}, BPF JIT {read('/proc/sys/net/core/bpf_jit_enable', '?')}",
        "mitigations": "; ".join(f"{name}: {read(problems + name)}" for name in ("spectre_v1", "spectre_v2")),
        "load before": read("/proc/loadavg").split(" ")[0],
        "btblock": first_line(binary, "version"),
        "compiler": first_line("c++", "--version"),
        "xdp-tools": package("xdp-tools"),
        "libndpi": package("libndpi-dev"),
        "nftables": package("nftables"),
        "iperf3": package("iperf3"),
    }
