# SPDX-License-Identifier: MIT
"""Single datagrams through the gateway: what passes, in which direction."""
import os
import random
import socket

from network import OTHER, client, host

PORT = 4000


def udp(lab, ns, address, port=0):
    with lab.inside(ns):
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    sock.settimeout(0.7)
    return sock


class Probe:
    """A socket of the client and one of a host on the internet side."""

    def __init__(self, lab, number=OTHER, family=4):
        self.there_address = host(number, family)
        # A new port on both sides each time: what an earlier probe gave away must not matter.
        self.here = udp(lab, lab.client, client(family))
        self.there = udp(lab, lab.internet, self.there_address, random.randrange(20000, 30000))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.here.close()
        self.there.close()

    @staticmethod
    def _arrives(sender, receiver, data):
        sender.sendto(data, receiver.getsockname())
        try:
            while receiver.recv(2048) != data:
                pass
            return True
        except TimeoutError:
            return False

    def outwards(self, data=None):
        """Whether a datagram from the client arrives."""
        return self._arrives(self.here, self.there, data or b"\x17plain " + os.urandom(20))

    def inwards(self, data=None):
        return self._arrives(self.there, self.here, data or b"\x17plain " + os.urandom(20))

    def both_ways(self):
        return self.outwards() and self.inwards()


def dht_query():
    """A DHT ping as libtorrent writes it: conclusive for one packet."""
    return b"d1:ad2:id20:" + os.urandom(20) + b"e1:q4:ping1:t2:" + os.urandom(2) + b"1:y1:qe"


def passes(lab, family=4):
    """Whether ordinary datagrams pass in both directions."""
    with Probe(lab, family=family) as probe:
        return probe.both_ways()


def blocks_dht(lab, family=4):
    """Whether a DHT query of the client is stopped."""
    with Probe(lab, family=family) as probe:
        return not probe.outwards(dht_query())
