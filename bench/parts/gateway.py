# SPDX-License-Identifier: MIT
"""Goodput of a gateway between a client and an internet, each in a network namespace, with several blockers in turn."""
import collections
import json
import time

from . import place
from .table import Row

PART = "Gateway in network namespaces"
SERVER = "203.0.113.40"
IPERF_PORT, PORT = "5201", "7443"
WAYS = {"no blocker": place.no_blocker, "btblock": place.btblock, "nftables drop set": place.nft_set,
        "queue everything": place.queue_everything}
DHT_RATE = 20_000


def iperf(lab, seconds, *options):
    """The end of iperf3's report. A test whose control connection does not come about is tried again."""
    for _ in range(3):
        done = lab.run(lab.client, ["iperf3", "-c", SERVER, "-p", IPERF_PORT, "-J", "-t", str(seconds), *options],
                       timeout=seconds + 60, check=False)
        report = json.loads(done.stdout or "{}")
        if "error" not in report and report.get("end"):
            return report["end"]
        time.sleep(1)
    raise RuntimeError(f"iperf3: {report.get('error', done.stderr)}")


def tcp(_context, lab, seconds):
    return iperf(lab, seconds)["sum_received"]["bits_per_second"] / 1e9


def small_datagrams(_context, lab, seconds):
    end = iperf(lab, seconds, "-u", "-l", "64", "-b", "0")["sum"]
    return (end["packets"] - end["lost_packets"]) / end["seconds"]


def connections(context, lab, _seconds):
    count = 2000 if context.quick else 10_000
    process = lab.start(lab.client, [context.tool("connections"), "run", SERVER, PORT, str(count), "64"], "connections")
    result = place.finish(process, 60)
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} of {count} connections failed")
    return count / result["seconds"]


def udp_flood(context, lab, seconds):
    """Datagrams of 64 bytes on the wire, each of another connection: those that come out on the other side."""
    before = place.received(lab, lab.internet, "eth0")
    result = place.finish(place.flood(context, lab, "udp", place.SINK, seconds), seconds)
    time.sleep(0.2)
    return (place.received(lab, lab.internet, "eth0") - before) / result["seconds"]


def tcp_beside_dht(context, lab, seconds):
    """A bulk transfer while the client also sends DHT queries to many nodes."""
    load = place.flood(context, lab, "dht", place.SINK, seconds + 1, DHT_RATE)
    time.sleep(0.5)
    speed = tcp(context, lab, seconds)
    place.finish(load, seconds)
    return speed


WORK = {  # in this order: the floods last, since they fill the table of half-flows
    "TCP bulk": (tcp, "Gbit/s", 0.97),
    "UDP, 64-byte payload": (small_datagrams, "packets/s", 0.90),
    "short connections": (connections, "1/s", 0.90),
    "UDP flood, each packet a new flow": (udp_flood, "packets/s", None),
    f"TCP bulk beside {DHT_RATE} DHT queries a second": (tcp_beside_dht, "Gbit/s", None),
}
LEGIT = 3  # of them


def rows(context):
    seconds = 1 if context.quick else 4
    figures = collections.defaultdict(list)
    punted, punted_a_flow = [], []
    with place.Lab(offloads=True) as lab:
        lab.ip(lab.gateway, f"route add {place.SINK}/32 via {SERVER}")
        lab.ip(lab.internet, f"route add blackhole {place.SINK}/32")
        for argv, ready in ((["iperf3", "-s", "-B", SERVER, "-p", IPERF_PORT, "--forceflush"], "listening"),
                            ([context.tool("connections"), "serve", SERVER, PORT], "ready")):
            server = lab.start(lab.internet, argv, argv[0].rsplit("/", 1)[-1])
            if not server.wait_for(ready, 30):
                raise RuntimeError(f"{argv[0]} does not start: {server.output()}")
        for _ in range(context.rounds):
            for way, start in WAYS.items():
                with start(context, lab) as running:
                    for number, (what, (measure, _unit, _target)) in enumerate(WORK.items()):
                        if running and number == LEGIT:
                            status = running.status()
                            punted.append(100 * status["packets"]["punted"] / status["packets"]["seen"])
                            punted_a_flow.append(status["packets"]["punted"] / max(1, status["flows"]["entries"]))
                        try:
                            figures[what, way].append(measure(context, lab, seconds))
                        except RuntimeError as problem:  # a tool that gives up once says little about the others
                            context.note(f"gateway: {what}, {way}: not measured in one round: {problem}")
    found = []
    for what, (_measure, unit, target) in WORK.items():
        for way in WAYS:
            if not figures[what, way]:
                context.failed.append(f"gateway: {what}, {way}: not measured in any round")
            elif way != "btblock" and figures[what, "btblock"]:
                found.append(Row(PART, what, unit, figures[what, "btblock"], way, figures[what, way], True,
                                 ratio_target=target if way == "no blocker" else None))
    found.append(Row(PART, "packets that went to user space, legitimate traffic", "%", punted, value_target=1))
    found.append(Row(PART, "the same for each half-flow, on average", "packets", punted_a_flow, value_target=8))
    return found
