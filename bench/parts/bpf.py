# SPDX-License-Identifier: MIT
"""The kernel programs by BPF_PROG_TEST_RUN, beside an empty program and xdp-filter."""
import statistics

from .table import Row

PART = "Kernel programs (BPF_PROG_TEST_RUN)"
BANS = (1 << 7, 1 << 10, 1 << 13, 1 << 17, 1 << 20)
FLOWS = (1 << 10, 1 << 14, 1 << 17, 1 << 18, 1 << 19)


def rows(context):
    result = context.json_of("bpf_run", *(["--quick"] if context.quick else []))
    series = result["series"]
    for name, reason in result["skipped"].items():
        context.note(f"{name}: {reason}")
    found = []

    def add(name, key, against="", reference=None, unit="ns", **more):
        if key in series:
            found.append(Row(PART, name, unit, series[key], against if reference in series else "",
                             series.get(reference, []), **more))

    full = "xdp-filter (all features)"
    add("empty program, XDP", "xdp/empty")
    add("empty program, TC", "tc/empty")
    add("XDP: drop, sender banned", "xdp/ban", full, "xdp-filter-all/drop", ratio_target=0.65)
    add("XDP: drop, sender banned", "xdp/ban", "xdp-filter (addresses only)", "xdp-filter-ip/drop")
    add("XDP: drop, receiver banned", "xdp/ban-dst", full, "xdp-filter-all/drop-dst")
    add("XDP: drop, sender banned, IPv6", "xdp/ban/ipv6")
    add("XDP: drop, condemned socket", "xdp/condemned", full, "xdp-filter-all/drop")
    add("XDP: pass, TCP", "xdp/pass/tcp", full, "xdp-filter-all/pass")
    add("XDP: pass, TCP", "xdp/pass/tcp", "xdp-filter (addresses only)", "xdp-filter-ip/pass")
    add("XDP: pass, UDP", "xdp/pass/udp", full, "xdp-filter-all/pass")
    add("XDP: pass, TCP over IPv6", "xdp/pass/ipv6", full, "xdp-filter-all/pass")
    add("TC: not IP", "tc/not-ip", full, "xdp-filter-all/pass")
    add("TC: clean flow, TCP", "tc/clean", full, "xdp-filter-all/pass", ratio_target=1.4)
    add("TC: clean flow, TCP over IPv6", "tc/clean/ipv6", full, "xdp-filter-all/pass")
    add("TC: clean flow, UDP", "tc/clean/udp", full, "xdp-filter-all/pass")
    add("TC: undecided (each packet inspected)", "tc/undecided", full, "xdp-filter-all/pass")
    add("TC: drop, banned", "tc/ban", full, "xdp-filter-all/drop")
    add("TC: drop, banned, IPv6", "tc/ban/ipv6", full, "xdp-filter-all/drop")
    add("TC: drop, condemned socket", "tc/condemned", full, "xdp-filter-all/drop")
    add("TC: drop, blocked flow", "tc/blocked-flow", full, "xdp-filter-all/drop")
    for count in BANS:
        few = f"{BANS[0]} bans"
        add(f"XDP: drop, one of {count} bans", f"xdp/ban/{count}", few, f"xdp/ban/{BANS[0]}", ratio_target=1.15)
        add(f"TC: clean flow, {count} bans", f"tc/clean/{count}", few, f"tc/clean/{BANS[0]}", ratio_target=1.15)
        add(f"XDP: drop, each of {count} bans in turn", f"random/xdp/ban/{count}", full, f"random/xdp-filter-all/drop/{count}")
        add(f"XDP: pass, {count} addresses in turn, as many bans", f"random/xdp/pass/{count}", full,
            f"random/xdp-filter-all/pass/{count}")
    for count in FLOWS:
        add(f"TC: clean flow, each of {count} in turn", f"random/tc/clean/{count}",
            f"{FLOWS[0]} flows", f"random/tc/clean/{FLOWS[0]}",
            note="twice the capacity" if count == FLOWS[-1] else "")
    for kind in ("udp", "tcp", "tls"):
        add(f"TC: first packet of a flow, {kind}", f"random/tc/new/{kind}/room")
        add(f"TC: first packet of a flow, {kind}, table full", f"random/tc/new/{kind}/full", "table with room",
            f"random/tc/new/{kind}/room")
    for count in (100, 10_000):
        add(f"TC: first packet of a flow, {count} allow rules", f"random/tc/new/udp/allow/{count}", "no rules",
            "random/tc/new/udp/allow/0")
    for entry in ("ban", "half-flow", "socket", "peer", "client", "allow"):
        add(f"memory of a {entry} entry" if entry != "allow" else "memory of an allow rule", f"memory/{entry}",
            "xdp-filter" if entry == "ban" else "", "memory/xdp-filter-all" if entry == "ban" else None, unit="bytes")
    fastest = min(series["xdp/empty"]), statistics.median(series["xdp/empty"])
    if fastest[1] > 1.5 * fastest[0]:
        context.note("the empty program's time varies by half and more: the machine was not idle")
    return found
