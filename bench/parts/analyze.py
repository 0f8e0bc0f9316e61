# SPDX-License-Identifier: MIT
"""btblock analyze and libndpi on one large capture, one thread each."""
import glob
import json
import os
import subprocess
import time

from .table import Row

PART = "analyze"
ROUNDS = 20       # repetitions of the project's captures in the small capture
FACTOR = 100      # the large one's size in small ones


def run_analyze(context, path):
    start = time.monotonic()
    done = subprocess.run([context.binary, "analyze", "-o", "csv", path], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"btblock analyze {path}: exit code {done.returncode}")
    return time.monotonic() - start


def run_ndpi(context, path, *options):
    done = subprocess.run([context.tool("ndpi_run"), *options, path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          text=True, check=True)
    return json.loads(done.stdout)


def rows(context):
    captures = os.path.join(context.root, "tests/corpus/captures")
    sources = sorted(glob.glob(f"{captures}/*.pcap") + glob.glob(f"{captures}/*.pcapng"))
    factor = 10 if context.quick else FACTOR
    paths = {}
    for name, rounds in (("small", ROUNDS), ("large", ROUNDS * factor)):
        paths[name] = os.path.join(context.scratch, f"{name}.pcap")
        subprocess.run([context.tool("make_capture"), paths[name], str(rounds), *sources], check=True)
    with_ndpi = os.path.exists(context.tool("ndpi_run"))
    if not with_ndpi:
        context.note("analyze: no libndpi to compare with (apt: libndpi-dev)")
    found = []
    speeds = {}
    try:
        for name, path in paths.items():
            packets = None
            ours, ndpi, ndpi_only = [], [], []
            for _ in range(context.rounds):
                took = run_analyze(context, path)
                if packets is None:
                    packets = count_packets(context, path)
                ours.append(packets / took)
                if with_ndpi:
                    result = run_ndpi(context, path)
                    ndpi.append(result["packets"] / result["seconds"])
                    result = run_ndpi(context, path, "--only-bittorrent")
                    ndpi_only.append(result["packets"] / result["seconds"])
            speeds[name] = [speed / packets * os.path.getsize(path) / 1e6 for speed in ours]
            size = f"{os.path.getsize(path) / 1e6:,.0f} MB, {packets:,} packets"
            found.append(Row(PART, f"packets a second, {size}", "1/s", ours, "libndpi", ndpi, True,
                             ratio_target=5 if with_ndpi else None))
            if with_ndpi:
                found.append(Row(PART, f"packets a second, {size}", "1/s", ours, "libndpi, BitTorrent only", ndpi_only, True))
        found.append(Row(PART, f"speed with {factor} times the capture", "MB/s", speeds["large"], "the small one",
                         speeds["small"], True, ratio_target=1))
    finally:
        for path in paths.values():
            os.unlink(path)
    return found


def count_packets(context, path):
    done = subprocess.run([context.binary, "analyze", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          check=True)
    # "large.pcap: 123 packets, 4 flows, ..."
    return int(done.stdout.split("\n", 1)[0].split(": ")[1].split(" ")[0])
