# SPDX-License-Identifier: MIT
"""btblock analyze, libndpi and its ndpiReader on the same captures, one thread each."""
import glob
import json
import os
import shutil
import subprocess
import time

from .table import Row

PART = "analyze"
# name: repetitions of the project's captures, packets of plain data in each
CAPTURES = {"small": (20, 400), "large": (2000, 400), "long": (20, 50000)}
WORDS = {"small": "short connections", "large": "short connections", "long": "long connections"}


def timed(command):
    """Seconds of a whole process."""
    start = time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}")
    return time.monotonic() - start


def run_ndpi(context, path):
    """Packets a second of a bare loop around libndpi: as a whole process, as btblock and ndpiReader are measured, and
    from its first packet to its last (reading the file included, libndpi's start and the loader's not)."""
    start = time.monotonic()
    done = subprocess.run([context.tool("ndpi_run"), path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          check=True)
    whole = time.monotonic() - start
    result = json.loads(done.stdout)
    return result["packets"] / whole, result["packets"] / result["seconds"]


def rows(context):
    captures = os.path.join(context.root, "tests/corpus/captures")
    sources = sorted(glob.glob(f"{captures}/*.pcap") + glob.glob(f"{captures}/*.pcapng"))
    with_ndpi = os.path.exists(context.tool("ndpi_run"))
    with_reader = shutil.which("ndpiReader") is not None
    if not with_ndpi or not with_reader:
        context.note("analyze: no libndpi to compare with (apt: libndpi-dev, libndpi-bin)")
    found, speeds, sizes = [], {}, {}
    for name, (rounds, bulk) in CAPTURES.items():
        path = os.path.join(context.scratch, f"{name}.pcap")
        rounds = max(1, rounds // 10) if context.quick else rounds
        subprocess.run([context.tool("make_capture"), path, str(rounds), str(bulk), *sources], check=True)
        packets, sizes[name] = count_packets(context, path), os.path.getsize(path)
        ours, ndpi, loop, reader = [], [], [], []
        for _ in range(context.rounds):
            ours.append(packets / timed([context.binary, "analyze", "-o", "csv", path]))
            if with_ndpi:
                whole, alone = run_ndpi(context, path)
                ndpi.append(whole)
                loop.append(alone)
            if with_reader:
                reader.append(packets / timed(["ndpiReader", "-q", "-i", path]))
        os.unlink(path)
        speeds[name] = [speed / packets * sizes[name] / 1e6 for speed in ours]
        what = f"packets a second, {WORDS[name]}: {sizes[name] / 1e6:,.0f} MB, {packets:,} packets"
        # Of a small capture most of the time is the start of the processes.
        target = 1 if name == "small" else 5
        found.append(Row(PART, what, "1/s", ours, "ndpiReader -q", reader, True, ratio_target=target if reader else None))
        found.append(Row(PART, what, "1/s", ours, "libndpi, a bare loop", ndpi, True, ratio_target=target if ndpi else None))
        found.append(Row(PART, what, "1/s", ours, "that loop, without its start", loop, True,
                         ratio_target=target if loop and name != "small" else None))
    found.append(Row(PART, f"speed with {sizes['large'] / sizes['small']:.0f} times the capture", "MB/s", speeds["large"],
                     "the small one", speeds["small"], True, ratio_target=1))
    return found


def count_packets(context, path):
    done = subprocess.run([context.binary, "analyze", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          check=True)
    # "large.pcap: 123 packets, 4 flows, ..."
    return int(done.stdout.split("\n", 1)[0].split(": ")[1].split(" ")[0])
