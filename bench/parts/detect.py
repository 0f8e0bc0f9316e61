# SPDX-License-Identifier: MIT
"""The detectors in user space by Google Benchmark."""
import collections

from .table import Row

PART = "Detectors and pipeline in user space"
LIMIT = 1500  # ns, for any detector and 1 400 bytes


def rows(context):
    result = context.json_of("bench_detect", "--benchmark_format=json",
                             f"--benchmark_repetitions={context.rounds}", "--benchmark_enable_random_interleaving=true",
                             f"--benchmark_min_time={0.005 if context.quick else 0.05}")
    series = collections.defaultdict(list)
    for run in result["benchmarks"]:
        if run["run_type"] == "iteration":
            series[tuple(run["run_name"].split(":"))].append(run["cpu_time"])
    found = []
    # One row for each detector: the payload that it takes longest for.
    for name in dict.fromkeys(what for what, _ in series if what.startswith("detector-")):
        all_of_it = [Row(PART, "", "ns", values, note=payload) for (what, payload), values in series.items() if what == name]
        worst = max(all_of_it, key=lambda row: row.median)
        found.append(Row(PART, f"{name.replace('-', ' ', 1)}, slowest of {len(all_of_it)} payloads", "ns", worst.values,
                         value_target=LIMIT, note=worst.note))
    words = {"facts": "kernel's detectors", "inspector": "all deep detectors, first packet of a flow",
             "pipeline-new": "pipeline, first packet of a flow", "pipeline-known": "pipeline, later packets"}
    for what, text in words.items():
        for (name, payload), values in series.items():
            if name == what:
                found.append(Row(PART, f"{text}: {payload}", "ns", values))
    return found
