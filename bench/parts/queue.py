# SPDX-License-Identifier: MIT
"""Verdicts a second of one NFQUEUE: btblock with its deep detectors, and a consumer that accepts everything."""
import time

from . import place
from .table import Row

PART = "NFQUEUE"
WARM_UP = 0.5


def sequence(lab):
    """Packets that the queue has handed to its listener so far, and those that did not fit into its socket."""
    with lab.inside(lab.gateway), open("/proc/thread-self/net/netfilter/nfnetlink_queue") as table:
        for line in table:
            columns = line.split()
            if int(columns[0]) == place.QUEUE:
                return int(columns[7]) - int(columns[2]) - int(columns[6])
    raise RuntimeError("nobody listens on the queue")


def verdicts_a_second(context, lab, seconds, rate=None):
    """Packets that are all for user space: HTTP requests with a query, odd bencoding, SOCKS, starts of handshakes."""
    load = place.flood(context, lab, "deep", place.SINK, seconds + 2 * WARM_UP, rate)
    time.sleep(WARM_UP)
    before, start = sequence(lab), time.monotonic()
    time.sleep(seconds)
    speed = (sequence(lab) - before) / (time.monotonic() - start)
    place.finish(load, seconds + 2)
    return speed


def rows(context):
    seconds = 1 if context.quick else 4
    speeds = {"btblock": [], "accept-all": []}
    ways = {"btblock": place.btblock, "accept-all": place.queue_everything}
    with place.Lab() as lab:
        lab.ip(lab.gateway, f"route add blackhole {place.SINK}/32")
        for _ in range(context.rounds):
            for name, way in ways.items():
                with way(context, lab):
                    speeds[name].append(verdicts_a_second(context, lab, seconds))
    return [Row(PART, "verdicts a second, one queue, deep detection of every packet", "1/s", speeds["btblock"],
                "accept-all consumer", speeds["accept-all"], True, ratio_target=round(1 / 1.3, 3), value_target=45_000)]
