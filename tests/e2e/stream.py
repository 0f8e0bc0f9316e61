# SPDX-License-Identifier: MIT
"""Steady traffic in the background, counted where it arrives."""
import http.client
import random
import socket
import threading
import time

from network import OTHER, client, host
from probe import udp

SO_RCVBUFFORCE = 33  # the module does not know it


class Background:
    """Threads that work inside a with statement, until self.closing."""
    threads, closing = (), False

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.closing = True
        for thread in self.threads:
            thread.join()


class Stream(Background):
    """Datagrams from a host on the internet side to the client, and some the other way, until closed."""

    def __init__(self, lab, number=OTHER, rate=5000, family=4):
        self.here = udp(lab, lab.client, client(family))
        self.there = udp(lab, lab.internet, host(number, family), random.randrange(20000, 30000))
        for sock in (self.here, self.there):
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
            sock.settimeout(0.2)
        self.rate, self.sent, self.arrived = rate, 0, 0
        self.threads = [threading.Thread(target=work, args=args, daemon=True) for work, args in
                        ((self._send, ()), (self._count, (self.here,)), (self._count, (self.there,)))]

    def __exit__(self, *_):
        super().__exit__()
        self.here.close()
        self.there.close()

    def _send(self):
        inwards, outwards, data = self.here.getsockname(), self.there.getsockname(), b"\x17steady " * 4
        began = time.monotonic()
        while not self.closing:
            due = min(int((time.monotonic() - began) * self.rate) - self.sent, self.rate // 10)
            for n in range(due):
                try:
                    self.there.sendto(data, inwards)
                    if n % 10 == 0:
                        self.here.sendto(data, outwards)
                except OSError:
                    pass  # an interface is down; what cannot leave is sent all the same, for the pace
                self.sent += 1
            time.sleep(0.005)

    def _count(self, sock):
        while not self.closing:
            try:
                sock.recv(2048)
                self.arrived += 1
            except OSError:
                pass

    def arriving(self, seconds=0.5):
        """How many arrive in a while."""
        before = self.arrived
        time.sleep(seconds)
        return self.arrived - before


class Requests(Background):
    """Clients that ask a web server at a steady pace, over new connections, for what user space has to look at. One that
    was held up catches up afterwards, as a person's browser does."""

    def __init__(self, lab, address, port=8080, clients=8, each=0.1):
        self.lab, self.address, self.port, self.each = lab, address, port, each
        self.answers, self.bytes, self.failed, self.slowest = 0, 0, 0, 0.0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def get(self, path, timeout=20):
        with self.lab.inside(self.lab.client):
            connection = http.client.HTTPConnection(self.address, self.port, timeout=timeout)
            connection.connect()
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def _ask(self):
        due = time.monotonic()
        while not self.closing:
            began, got = time.monotonic(), b""
            try:
                got = self.get(f"/q?{'x' * 900}&n={random.random()}")
            except OSError:
                with self.lock:
                    self.failed += 1
            with self.lock:
                self.answers += bool(got)
                self.bytes += len(got)
                self.slowest = max(self.slowest, time.monotonic() - began)
            due += self.each
            time.sleep(max(0.0, due - time.monotonic()))

    def goodput(self, seconds):
        """Bytes a second over a while."""
        before, began = self.bytes, time.monotonic()
        time.sleep(seconds)
        return (self.bytes - before) / (time.monotonic() - began)
