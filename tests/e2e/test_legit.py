# SPDX-License-Identifier: MIT
"""Other people's traffic: it works through an enforcing btblock, and nothing of it is taken for BitTorrent."""
import hashlib
import http.client
import os
import random
import shutil
import socket
import struct
import subprocess
import time
import unittest

from btblock import Btblock
from network import Lab, WEB, host, bracket
from swarm import MiB, serve


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


class Legit(unittest.TestCase):
    def through_gateway(self, check, **lab):
        """check(lab, address) drives traffic; afterwards nothing may have been dropped or detected."""
        for family in (4, 6):
            with self.subTest(family=family), Lab(**lab) as network, Btblock(network) as btblock:
                check(network, host(WEB, family))
                status = btblock.status()
                self.assertEqual(btblock.detections(status), {})
                self.assertEqual(status["packets"]["dropped"], 0, status)
                self.assertGreater(status["packets"]["seen"], 10)

    def download(self, lab, scheme, address, port, *options, size=16 * MiB):
        source = lab.random_file("web/file.bin", size)
        arguments = [address, str(port), os.path.dirname(source)]
        if scheme == "https":
            key, certificate = lab.file("key.pem"), lab.file("cert.pem")
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
                            "-days", "2", "-subj", "/CN=lab"], check=True, stderr=subprocess.DEVNULL)
            arguments += [certificate, key]
        serve(lab, scheme, *arguments)
        got = lab.file("got.bin")
        lab.run(lab.client, ["curl", "-sS", "--fail", "--noproxy", "*", "--max-time", "30", *options, "-o", got,
                             f"{scheme}://{bracket(address)}:{port}/file.bin"], timeout=40)
        self.assertEqual(sha256(got), sha256(source))

    def test_http(self):
        self.through_gateway(lambda lab, address: self.download(lab, "http", address, 80))

    def test_http_segmentation_offload(self):
        self.through_gateway(lambda lab, address: self.download(lab, "http", address, 80, size=64 * MiB), offloads=True)

    def test_http_nat(self):
        self.through_gateway(lambda lab, address: self.download(lab, "http", address, 80), nat=True)

    def test_https(self):
        self.through_gateway(lambda lab, address: self.download(lab, "https", address, 443, "-k"))

    def test_http_queries(self):
        """Requests with a query go through the deep detectors, each on a kept-alive connection."""
        def check(lab, address):
            serve(lab, "http", address, "8080", lab.dir)
            for _ in range(3):
                with lab.inside(lab.client):
                    connection = http.client.HTTPConnection(address, 8080, timeout=10)
                    connection.connect()
                for n in range(20):
                    path = f"/q?info={n}&peer=2&port=6881&text=" + "x" * random.randrange(900)
                    connection.request("GET", path, headers={"User-Agent": "curl/7.88"})
                    self.assertEqual(connection.getresponse().read().decode(), path)
                connection.close()
        self.through_gateway(check)

    @unittest.skipUnless(shutil.which("sshd") or os.path.exists("/usr/sbin/sshd"), "no sshd (apt: openssh-server)")
    def test_ssh(self):
        def check(lab, address):
            for name in ("host", "user"):
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", lab.file(name)], check=True)
            shutil.copy(lab.file("user.pub"), lab.file("authorized"))
            os.chmod(lab.dir, 0o755)
            with open(lab.file("sshd.conf"), "w") as f:
                f.write(f"HostKey {lab.file('host')}\nAuthorizedKeysFile {lab.file('authorized')}\nStrictModes no\n"
                        f"UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nListenAddress {address}\n"
                        f"PidFile {lab.file('sshd.pid')}\nMaxStartups 50\n")
            server = lab.start(lab.internet, ["/usr/sbin/sshd", "-D", "-e", "-f", lab.file("sshd.conf")], "sshd")
            self.assertTrue(server.wait_for("listening", 10), server.output())
            source = lab.random_file("big", 16 * MiB)
            ssh = ["ssh", "-F", "/dev/null", "-i", lab.file("user"), "-o", "StrictHostKeyChecking=no", "-o",
                   "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10", f"root@{address}"]
            for _ in range(3):
                done = lab.run(lab.client, [*ssh, f"sha256sum < {source}"])
                self.assertIn(sha256(source), done.stdout)
            lab.run(lab.client, ["sh", "-c", f'"$@" "cat {source}" > {lab.file("copy")}', "sh", *ssh])
            self.assertEqual(sha256(lab.file("copy")), sha256(source))
        self.through_gateway(check)

    def test_dns(self):
        """Identifiers walk through values that begin like other protocols ('A' is 0x41, 'd1' is 0x6431)."""
        def check(lab, address):
            serve(lab, "dns", address, "53")
            question = b"".join(bytes([len(part)]) + part for part in (b"www", b"example", b"org", b""))
            for identifier in (0x4100, 0x4101, 0x2100, 0x0100, 0x6431, 0x6432, 0x1342, 0x0000, 0x0417, 0xFFFF,
                               *(random.randrange(65536) for _ in range(40))):
                with lab.inside(lab.client):
                    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
                sock.settimeout(5)
                sock.connect((address, 53))
                sock.send(struct.pack("!HHHHHH", identifier, 0x0100, 1, 0, 0, 0) + question + b"\0\1\0\1")
                answer = sock.recv(512)
                self.assertEqual(answer[:2], struct.pack("!H", identifier))
                self.assertEqual(answer[-4:], socket.inet_aton("192.0.2.53"))
                sock.close()
        self.through_gateway(check)

    def test_random_tcp(self):
        """Twenty connections that look like noise from the first byte on, many turns of random sizes."""
        def check(lab, address):
            serve(lab, "tcp", address, "5201")
            for _ in range(20):
                with lab.inside(lab.client):
                    connection = socket.create_connection((address, 5201), 10)
                for size in (random.randrange(1, 1400), random.randrange(1, 1400), random.randrange(1, 20000), 400000):
                    mask = random.getrandbits(32)
                    connection.sendall(struct.pack("!II", mask, mask ^ size) + os.urandom(size))
                    left = size
                    while left:
                        part = connection.recv(65536)
                        self.assertTrue(part, f"connection closed with {left} of {size} bytes missing")
                        left -= len(part)
                connection.close()
        self.through_gateway(check)

    def test_random_udp(self):
        """Forty sockets that exchange random datagrams of random sizes."""
        def check(lab, address):
            serve(lab, "udp", address, "5202")
            sockets = []
            for _ in range(40):
                with lab.inside(lab.client):
                    sockets.append(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM))
                sockets[-1].connect((address, 5202))
                sockets[-1].settimeout(3)
            for _ in range(25):
                for sock in sockets:
                    data = os.urandom(random.randrange(12, 1400))
                    sock.send(data)
                    self.assertEqual(len(sock.recv(2048)), len(data))
            for sock in sockets:
                sock.close()
        self.through_gateway(check)

    def test_ping(self):
        self.through_gateway(lambda lab, address: self.assertTrue(lab.ping(lab.client, address, count=20)))

    def test_beside_a_torrent(self):
        """A client that runs BitTorrent and a browser: only one of the two stops."""
        from swarm import Swarm, missing_libtorrent
        if missing_libtorrent():
            self.skipTest(missing_libtorrent())
        with Lab() as lab, Btblock(lab) as btblock:
            leecher = Swarm(lab).leech()
            self.assertTrue(btblock.wait_detection(15))
            self.download(lab, "http", host(WEB), 80)
            time.sleep(1)
            self.download_again(lab)
            self.assertEqual(leecher.payload(), 0)

    def download_again(self, lab):
        lab.run(lab.client, ["curl", "-sS", "--fail", "--noproxy", "*", "--max-time", "30", "-o", "/dev/null",
                             f"http://{host(WEB)}/file.bin?again=1"], timeout=40)
