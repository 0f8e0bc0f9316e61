# SPDX-License-Identifier: MIT
"""Where no guarded device brings the packets in: only the outer interface guarded, and what the gateway itself sends."""
import os
import socket
import time
import unittest

from btblock import Btblock
from network import CLIENT4, LAN4, Lab, SEEDER, WAN4, WAN6, WEB, host, wait_until
from swarm import PYTHON, SEED_PORT, Swarm, missing_libtorrent, script

SETTLE = 5
PROXY_PORT = 1080
MiB = 1 << 20


class Egress(unittest.TestCase):
    def setUp(self):
        reason = missing_libtorrent()
        if reason:
            self.skipTest(reason)

    # ---- helpers

    def check(self, start, swarm, lab, settings=(), interfaces="wan0", seen=None, announced_by=WAN4, patience=25):
        """start(): a fresh client. It completes without btblock, and with it moves no byte and announces nothing."""
        first = start()
        self.assertTrue(first.wait_done(patience), f"without btblock: {first.status()}")
        first.stop()
        with Btblock(lab, interfaces, settings=settings) as btblock:
            before = swarm.announces(announced_by) if swarm.tracker else 0
            second = start()
            detected = btblock.wait_detection(patience)
            time.sleep(SETTLE)
            self.assertTrue(second.process.running(), second.process.output()[-1000:])
            self.assertEqual(second.status()["payload"], 0, f"{second.status()}, detected {detected}")
            second.stop()
            if swarm.tracker:
                self.assertEqual(swarm.announces(announced_by) - before, 0, f"announced; detected {detected}")
            status = btblock.status()
            detected = btblock.detections(status)
            self.assertTrue(detected, "nothing detected")
            if seen:
                self.assertIn(seen, detected)
            self.assertEqual(status["announce_leaked"], 0, status["announce_leaked_by"])
            return status


    # ---- the outer interface alone

    def outer(self, **options):
        lab_options = {"nat": options.pop("nat", True)}
        with Lab(**lab_options) as lab:
            swarm = Swarm(lab, **options)
            by = WAN4 if lab.nat else CLIENT4
            return self.check(swarm.leech, swarm, lab, announced_by=by)

    def test_outer_http_tracker_nat(self):
        self.assertIn("tracker.http", [k for k, n in self.outer(find="http")["detections"].items() if n])

    def test_outer_http_tracker(self):
        self.outer(find="http", nat=False)

    def test_outer_udp_tracker_nat(self):
        self.outer(find="udp")

    def test_outer_dht_nat(self):
        self.outer(find="dht")

    def test_outer_web_download(self):
        """A long download is not slowed: only its beginning is looked at, and hardly any packet queued."""
        with Lab(nat=True, offloads=True) as lab:
            lab.random_file("www/big.bin", 64 * MiB)
            server = lab.start(lab.internet, [PYTHON, script("services.py"), "http", host(WEB), "80", lab.file("www")], "http")
            self.assertTrue(server.wait_for("ready", 10), server.output())
            fetch = ["curl", "-sf", "-o", "/dev/null", "-w", "%{size_download}", f"http://{host(WEB)}/big.bin?version=1"]
            self.assertEqual(lab.run(lab.client, fetch).stdout, str(64 * MiB))
            with Btblock(lab, "wan0") as btblock:
                self.assertEqual(lab.run(lab.client, fetch).stdout, str(64 * MiB))
                status = btblock.status()
                self.assertLess(status["packets"]["punted"], 20, status["packets"])
                self.assertEqual(btblock.detections(status), {})

    def test_device_beside_the_guarded_ones(self):
        """Rules for forwarded packets come with the first device that is not guarded, and what it brings in is read."""
        announce = b"GET /announce?info_hash=%01%02%03%04%05%06%07%08%09%0a%0b%0c%0d%0e%0f%10%11%12%13%14&peer_id=" \
            b"-TR4000-abcdefghijkl&port=51413&uploaded=0&downloaded=0&left=9&compact=1 HTTP/1.1\r\nHost: x\r\n\r\n"
        with Lab() as lab, Btblock(lab) as btblock:
            def forwards():
                return sum("-A FORWARD" in line for line in lab.rules())

            self.assertEqual(forwards(), 0, lab.rules())
            guest = f"{lab.prefix}-guest"
            lab.add_namespace(guest)
            lab.connect(guest, "eth0", lab.gateway, "lan1")
            self.assertTrue(wait_until(lambda: forwards() == 4, 5), lab.rules())
            lab.ip(guest, "addr add 10.77.2.2/24 dev eth0\nroute add default via 10.77.2.1")
            lab.ip(lab.gateway, "addr add 10.77.2.1/24 dev lan1")
            lab.ip(lab.internet, f"route add 10.77.2.0/24 via {WAN4}")
            with lab.inside(lab.internet):
                listener = socket.create_server((host(WEB), 6969))
            for request, arrives in ((b"GET /x?a=1 HTTP/1.1\r\nHost: x\r\n\r\n", True), (announce, False)):
                with lab.inside(guest):
                    client = socket.create_connection((host(WEB), 6969), 3)
                server, _ = listener.accept()
                with client, server:
                    client.sendall(request)
                    server.settimeout(2)
                    self.assertEqual(Reject.failure(lambda: server.recv(4096)), request if arrives else "TimeoutError")
            listener.close()
            self.assertEqual(btblock.detections(), {"tracker.http": 1})

    # ---- the gateway's own programs

    def own(self, scope="output", **options):
        with Lab() as lab:
            swarm = Swarm(lab, **options)
            by = WAN6 if swarm.family == 6 else WAN4
            return self.check(lambda: swarm.leech(lab.gateway, by), swarm, lab, [f"scope={scope}"], announced_by=by)

    def test_own_http_tracker(self):
        self.assertGreater(self.own(find="http")["detections"]["tracker.http"], 0)

    def test_own_http_tracker_v6(self):
        self.own(find="http", family=6)

    def test_own_udp_tracker(self):
        self.own(find="udp")

    def test_own_dht(self):
        self.own(find="dht")

    def test_own_tcp(self):
        self.own(transport="tcp")

    def test_own_rules(self):
        """The rules are gone afterwards, and two starts make the same."""
        with Lab() as lab:
            before = lab.rules()
            with Btblock(lab, "wan0", settings=["scope=output"]) as btblock:
                during = lab.rules()
                self.assertEqual(sum("-A OUTPUT -o wan0" in line for line in during), 2, during)
                self.assertEqual(sum("-A FORWARD ! -i wan0 -o wan0" in line for line in during), 2, during)
                btblock.stop(9)
                btblock.start()
                self.assertEqual(lab.rules(), during)
                btblock.stop()
                self.assertEqual(btblock.clean_after(before), [])

    # ---- a proxy on the gateway

    def proxied(self, kind, find):
        with Lab() as lab:
            swarm = Swarm(lab, find=find, transport="tcp")
            proxy = lab.start(lab.gateway, [PYTHON, script("proxy.py"), LAN4, str(PROXY_PORT)], "proxy")
            self.assertTrue(proxy.wait_for("ready", 10), proxy.output())
            # the only way out is the proxy
            lab.run(lab.gateway, ["sysctl", "-qw", "net.ipv4.ip_forward=0"])
            swarm.extra = ["--proxy", f"{kind}://{LAN4}:{PROXY_PORT}"]
            return self.check(swarm.leech, swarm, lab, ["scope=output"])

    def test_proxy_socks5_peer(self):
        self.proxied("socks5", "direct")

    def test_proxy_socks5_tracker(self):
        self.proxied("socks5", "http")

    def test_proxy_http_tracker(self):
        self.proxied("http", "http")


class Reject(unittest.TestCase):
    """action = reject: both ends are told at once, and still nothing leaves."""

    HANDSHAKE = b"\x13BitTorrent protocol" + bytes(8) + os.urandom(20) + b"-LT2080-" + os.urandom(12)
    DHT = b"d1:ad2:id20:" + os.urandom(20) + b"e1:q4:ping1:t2:aa1:y1:qe"
    TCP_INFO, TOTAL_RETRANS = 11, 100

    def tcp(self, lab, family, seconds):
        """(the client's error, segments it sent again, what the server got, the server's error)"""
        with lab.inside(lab.internet):
            listener = socket.create_server((host(SEEDER, family), SEED_PORT),
                                            family=socket.AF_INET6 if family == 6 else socket.AF_INET)
        with lab.inside(lab.client):
            client = socket.create_connection(listener.getsockname()[:2], 3)
        server, _ = listener.accept()
        with listener, client, server:
            client.sendall(self.HANDSHAKE)
            client.settimeout(seconds)
            mine = self.failure(lambda: client.recv(1))
            info = client.getsockopt(socket.IPPROTO_TCP, self.TCP_INFO, 232)
            again = int.from_bytes(info[self.TOTAL_RETRANS:self.TOTAL_RETRANS + 4], "little")
            server.settimeout(0.5)
            return mine, again, self.failure(lambda: server.recv(4096))

    @staticmethod
    def failure(action):
        try:
            return action()
        except OSError as e:
            return type(e).__name__

    def udp(self, lab, family):
        with lab.inside(lab.internet):
            there = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        with lab.inside(lab.client):
            here = socket.socket(there.family, socket.SOCK_DGRAM)
        with there, here:
            there.bind((host(SEEDER, family), SEED_PORT))
            there.settimeout(0.3)
            here.connect(there.getsockname()[:2])
            here.settimeout(1)
            here.send(self.DHT)
            return self.failure(lambda: here.recv(1)), self.failure(lambda: there.recv(2048))

    def check(self, family=4, interfaces="lan0,wan0", nat=False):
        with Lab(nat=nat) as lab:
            with Btblock(lab, interfaces):
                mine, again, theirs = self.tcp(lab, family, 8)
                self.assertEqual((mine, theirs), ("TimeoutError", "TimeoutError"))
                print(f"dropped: sent 1 + {again} times")
                self.assertGreaterEqual(again, 4, "a dropped segment is sent again and again")
                self.assertEqual(self.udp(lab, family), ("TimeoutError", "TimeoutError"))
            with Btblock(lab, interfaces, settings=["action=reject"]) as btblock:
                start = time.monotonic()
                mine, again, theirs = self.tcp(lab, family, 8)
                print(f"rejected: sent 1 + {again} times, {mine} after {time.monotonic() - start:.2f} s")
                self.assertEqual((mine, again), ("ConnectionResetError", 0))
                self.assertEqual(theirs, "ConnectionResetError", "the other end")
                self.assertEqual(self.udp(lab, family), ("ConnectionRefusedError", "TimeoutError"))
                self.assertGreater(btblock.status()["packets"]["rejected"], 0)

    def test_reject(self):
        self.check()

    def test_reject_v6(self):
        self.check(family=6)

    def test_reject_nat_inner(self):
        self.check(interfaces="lan0", nat=True)

    def test_reject_nat_outer(self):
        self.check(interfaces="wan0", nat=True)

    def test_reject_banned(self):
        """A connection attempt to a banned address fails at once."""
        with Lab() as lab, Btblock(lab, settings=["action=reject"]) as btblock:
            btblock.ban(host(SEEDER))
            with lab.inside(lab.client):
                sock = socket.socket()
            sock.settimeout(3)
            with sock:
                self.assertEqual(self.failure(lambda: sock.connect((host(SEEDER), 80))), "ConnectionRefusedError")

    def test_reject_rate(self):
        """A flood is not answered packet for packet."""
        with Lab() as lab, Btblock(lab, settings=["action=reject"]) as btblock:
            btblock.ban(host(SEEDER))
            with lab.inside(lab.client):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with sock:
                start = time.monotonic()
                for _ in range(20000):
                    self.failure(lambda: sock.sendto(b"x", (host(SEEDER), 9)))
                seconds = time.monotonic() - start
            time.sleep(1.5)
            status = btblock.status()
            self.assertGreaterEqual(status["drops"]["ban"], 19000, status["drops"])
            self.assertLess(status["packets"]["rejected"], 100 * os.cpu_count() * (seconds + 2))


class Early(unittest.TestCase):
    """XDP on a device: what it drops, nobody behind it sees, not even a capture."""

    COUNT = 50

    def sent(self, lab, address, port, source_port=0, data=b"plain text of no protocol"):
        with lab.inside(lab.client):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.bind((CLIENT4, source_port))
            for _ in range(self.COUNT):
                sock.sendto(data, (address, port))

    def captured(self, lab, action, address):
        """Frames to the address that a capture on the gateway's inner device sees during the action."""
        with lab.inside(lab.gateway):
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        with tap:
            tap.bind(("lan0", 0))
            tap.settimeout(0.5)
            action()
            count = 0
            try:
                while True:
                    count += socket.inet_aton(address) == tap.recv(2048)[30:34]
            except TimeoutError:
                return count

    def check(self, xdp, expected):
        with Lab() as lab, Btblock(lab, settings=[f"xdp={xdp}"]) as btblock:
            mode = {i["name"]: i["xdp"] for i in btblock.status()["interfaces"]}["lan0"]
            self.assertEqual(mode, xdp)
            banned, plain = host(WEB), host(SEEDER)
            self.assertEqual(self.captured(lab, lambda: self.sent(lab, plain, 9), plain), self.COUNT)
            btblock.ban(banned)
            self.assertEqual(self.captured(lab, lambda: self.sent(lab, banned, 9), banned), expected)
            self.assertEqual(btblock.status()["drops"]["ban"], self.COUNT)
            # one query condemns the socket; all that it sends later is dropped early
            self.sent(lab, plain, 6881, 42000, Reject.DHT)
            before = btblock.status()["drops"]
            self.assertEqual(self.captured(lab, lambda: self.sent(lab, plain, 7000, 42000), plain), expected)
            after = btblock.status()["drops"]
            dropped = sum(after.values()) - sum(before.values())
            self.assertEqual(dropped, self.COUNT, f"{before} {after}")
            if not expected:
                self.assertEqual(after["socket"] - before["socket"], self.COUNT)

    def test_xdp_native(self):
        self.check("native", 0)

    def test_xdp_generic(self):
        self.check("generic", 0)

    def test_xdp_off(self):
        self.check("off", self.COUNT)
