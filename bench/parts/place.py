# SPDX-License-Identifier: MIT
"""What the parts need that run in network namespaces: the end-to-end tests' lab, and other people's ways to filter."""
import contextlib
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))

import btblock as harness  # noqa: E402
from network import CLIENT4, Lab  # noqa: E402

SINK = "198.18.0.1"  # packets to here go nowhere
QUEUE = 42
harness.READY_TIMEOUT = 60  # a busy machine is no failure here
SET_SIZE = 10_000


@contextlib.contextmanager
def no_blocker(_context, _lab):
    yield None


@contextlib.contextmanager
def btblock(_context, lab):
    with harness.Btblock(lab, settings=(f"queue.first={QUEUE}", "queue.count=1")) as running:
        yield running


@contextlib.contextmanager
def nft_set(_context, lab):
    """An address set as blocklists use it: looked up for both ends of every packet, in raw priority."""
    addresses = ", ".join(f"198.19.{n >> 8}.{n & 255}" for n in range(SET_SIZE))
    lab.run(lab.gateway, ["nft", "-f", "-"], input=f"""
        table inet bench {{
            set banned {{ type ipv4_addr; elements = {{ {addresses} }} }}
            chain pre {{
                type filter hook prerouting priority -300;
                ip saddr @banned drop
                ip daddr @banned drop
            }}
        }}""")
    try:
        yield None
    finally:
        lab.run(lab.gateway, ["nft", "delete", "table", "inet", "bench"])


@contextlib.contextmanager
def queue_everything(context, lab):
    consumer = lab.start(lab.gateway, [context.tool("accept_all"), str(QUEUE)], "accept_all")
    if not consumer.wait_for("ready", 10):
        raise RuntimeError(f"accept_all does not start: {consumer.output()}")
    rule = ["PREROUTING", "-j", "NFQUEUE", "--queue-num", str(QUEUE), "--queue-bypass"]
    lab.run(lab.gateway, ["iptables", "-t", "raw", "-A", *rule])
    try:
        yield None
    finally:
        lab.run(lab.gateway, ["iptables", "-t", "raw", "-D", *rule])
        consumer.stop()


def flood(context, lab, kind, to, seconds, rate=None):
    """Starts the flood; its process."""
    mac = json.loads(lab.run(lab.gateway, ["ip", "-j", "link", "show", "lan0"]).stdout)[0]["address"]
    argv = [context.tool("flood"), "eth0", mac, CLIENT4, to, kind, str(seconds)]
    return lab.start(lab.client, argv + ([str(rate)] if rate else []), f"flood-{kind}")


def finish(process, seconds):
    """Waits for a program that ends by itself; its output as JSON."""
    if process.wait(seconds + 20) != 0:
        raise RuntimeError(f"{' '.join(process.argv)}: {process.output()}")
    return json.loads(process.output())


def received(lab, namespace, device):
    link = json.loads(lab.run(namespace, ["ip", "-j", "-s", "link", "show", device]).stdout)[0]
    return link["stats64"]["rx"]["packets"]


__all__ = ["CLIENT4", "Lab", "QUEUE", "SINK", "btblock", "finish", "flood", "nft_set", "no_blocker", "queue_everything",
           "received"]
