# SPDX-License-Identifier: MIT
"""BitTorrent clients in the lab: libtorrent peers, Transmission, a tracker, DHT nodes."""
import base64
import json
import os
import subprocess
import urllib.error
import urllib.request

from network import DHT_NODES, SEEDER, TRACKER, bracket, client, host, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"  # where Debian installs libtorrent's module
SEED_PORT, LEECH_PORT, TRACKER_PORT, DHT_PORT = 38217, 42871, 6969, 6881
MiB = 1 << 20


def script(name):
    return os.path.join(HERE, name)


def serve(lab, *arguments):
    """An ordinary server on the internet side: `services.py ARGUMENTS`."""
    server = lab.start(lab.internet, [PYTHON, script("services.py"), *arguments], arguments[0])
    if not server.wait_for("ready", 10):
        raise RuntimeError(f"{arguments[0]} server: {server.output()}")


class Peer:
    """A libtorrent peer; `status()` is its last status line."""

    def __init__(self, lab, ns, address, port, torrent, directory, seed=False, connect=(), transport="both",
                 encryption="plain", dht=(), extra=()):
        argv = [PYTHON, script("peer.py"), "run", "--torrent", torrent, "--dir", directory,
                "--listen", f"{bracket(address)}:{port}", "--transport", transport, "--encryption", encryption]
        argv += ["--seed"] if seed else []
        for option, values in (("--connect", connect), ("--dht", dht)):
            for value in values:
                argv += [option, value]
        argv += extra
        os.makedirs(directory, exist_ok=True)
        self.process = lab.start(ns, argv, "seeder" if seed else "leecher")

    def status(self):
        for line in reversed(self.process.output().splitlines()):
            try:
                return json.loads(line)
            except ValueError:  # the line being written
                continue
        return {"seconds": 0, "payload": 0, "verified": 0, "total": 0, "peers": 0, "done": False}

    def payload(self):
        return self.status()["payload"]

    def wait_done(self, timeout):
        wait_until(lambda: self.status()["done"] or not self.process.running(), timeout, 0.1)
        if not self.process.running():
            raise RuntimeError(f"peer ended: {self.process.output()[-500:]}")
        return self.status()["done"]

    def stop(self):
        self.process.stop()


class Transmission:
    """transmission-daemon, steered over its RPC interface in its own namespace."""

    def __init__(self, lab, ns, address, port, torrent, directory, seed=False):
        self.lab, self.ns, self.session = lab, ns, ""
        name = "transmission-seeder" if seed else "transmission-leecher"
        config = lab.file(f"{name}-config-{port}")
        os.makedirs(config)
        os.makedirs(directory, exist_ok=True)
        settings = {
            "bind-address-ipv4": address, "peer-port": port, "peer-port-random-on-start": False,
            "rpc-port": 9091, "rpc-bind-address": "127.0.0.1", "rpc-whitelist-enabled": False,
            "download-dir": directory, "incomplete-dir-enabled": False, "port-forwarding-enabled": False,
            "dht-enabled": False, "lpd-enabled": False, "pex-enabled": False, "utp-enabled": False, "encryption": 0,
            "ratio-limit-enabled": False, "start-added-torrents": True,
        }
        with open(os.path.join(config, "settings.json"), "w") as f:
            json.dump(settings, f)
        self.process = lab.start(ns, ["transmission-daemon", "-f", "-g", config], name)
        if not wait_until(self._answers, 20, 0.1):
            raise RuntimeError(f"transmission-daemon does not answer: {self.process.output()[-500:]}")
        with open(torrent, "rb") as f:
            self.call("torrent-add", metainfo=base64.b64encode(f.read()).decode())

    def _answers(self):
        try:
            return self.call("session-get") is not None
        except OSError:
            return False

    def call(self, method, **arguments):
        body = json.dumps({"method": method, "arguments": arguments}).encode()
        for _ in range(2):
            request = urllib.request.Request("http://127.0.0.1:9091/transmission/rpc", body,
                                             {"X-Transmission-Session-Id": self.session})
            try:
                with self.lab.inside(self.ns), urllib.request.urlopen(request, timeout=5) as answer:
                    return json.load(answer)["arguments"]
            except urllib.error.HTTPError as refusal:
                if refusal.code != 409:  # 409 hands out the session id
                    raise
                self.session = refusal.headers["X-Transmission-Session-Id"]
        raise RuntimeError("transmission-daemon refuses the session id it gave")

    def status(self):
        t, = self.call("torrent-get", fields=["downloadedEver", "haveValid", "sizeWhenDone", "percentDone",
                                              "peersConnected"])["torrents"]
        return {"payload": t["downloadedEver"], "verified": t["haveValid"], "total": t["sizeWhenDone"],
                "peers": t["peersConnected"], "done": t["percentDone"] == 1 and t["sizeWhenDone"] > 0}

    def payload(self):
        return self.status()["payload"]

    def wait_done(self, timeout):
        return bool(wait_until(lambda: self.status()["done"], timeout, 0.2))

    def stop(self):
        self.process.stop()


class Swarm:
    """One torrent, a seeder on the internet side, and how a client may find it."""

    def __init__(self, lab, family=4, transport="both", encryption="plain", find="direct", size=4 * MiB,
                 transmission=False):
        """find, joined by commas: direct (the client knows the seeder), inbound (the seeder knows the client),
        http, udp (trackers), dht."""
        self.lab, self.family, self.transport, self.encryption = lab, family, transport, encryption
        self.find = find.split(",")
        self.size, self.transmission, self.runs = size, transmission, 0
        self.tracker, self.dht = None, []
        self.extra = []  # options of the clients started from now on
        trackers = []
        for scheme in ("http", "udp"):
            if scheme in self.find:
                trackers += ["--tracker", f"{scheme}://{bracket(host(TRACKER, family))}:{TRACKER_PORT}/announce"]
        if trackers:
            addresses = [host(TRACKER, 4), host(TRACKER, 6)]
            self.tracker = lab.start(lab.internet, [PYTHON, script("tracker.py"), str(TRACKER_PORT), *addresses], "tracker")
            self._ready(self.tracker)
        if "dht" in self.find:
            self.dht = [f"{bracket(host(n, family))}:{DHT_PORT}" for n in DHT_NODES]
            self._ready(lab.start(lab.internet, [PYTHON, script("peer.py"), "dht", "--listen", *self.dht], "dht"))
        content = lab.random_file("seed/payload.bin", size)
        self.torrent = lab.file("payload.torrent")
        lab.run(lab.internet, [PYTHON, script("peer.py"), "make", content, self.torrent, *trackers])
        self.seeder = self._client(lab.internet, host(SEEDER, family), SEED_PORT, os.path.dirname(content), seed=True)
        if not self.seeder.wait_done(20):
            raise RuntimeError(f"the seeder is not ready: {self.seeder.status()}")
        if self.tracker and not wait_until(lambda: self.announces(host(SEEDER, family)), 20):
            raise RuntimeError("the seeder's announce does not reach the tracker")

    @staticmethod
    def _ready(process):
        if not process.wait_for("ready", 15):
            raise RuntimeError(f"{process.argv[-1]}: {process.output()}")

    def _client(self, ns, address, port, directory, seed=False):
        if self.transmission:
            return Transmission(self.lab, ns, address, port, self.torrent, directory, seed)
        connect = []
        if "direct" in self.find and not seed:
            connect = [f"{bracket(host(SEEDER, self.family))}:{SEED_PORT}"]
        if "inbound" in self.find and seed:
            connect = [f"{bracket(client(self.family))}:{LEECH_PORT + n}" for n in range(1, 5)]
        return Peer(self.lab, ns, address, port, self.torrent, directory, seed, connect, self.transport,
                    self.encryption, self.dht[:3], self.extra)

    def leech(self, ns=None, address=None):
        """A fresh client that wants the torrent, by default in the client namespace."""
        self.runs += 1
        return self._client(ns or self.lab.client, address or client(self.family), LEECH_PORT + self.runs,
                            self.lab.file(f"leech-{self.runs}"))

    def announces(self, address=None):
        """How many announces reached the tracker from an address (by default the client's)."""
        wanted = address or client(self.family)
        # Counted in the text: two threads of the tracker may write into one line.
        return self.tracker.output().count(f'"from": "{wanted}"')


def missing_libtorrent():
    """Why libtorrent peers cannot run here, or an empty text."""
    done = subprocess.run([PYTHON, "-c", "import libtorrent"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    return "" if done.returncode == 0 else f"{PYTHON} has no libtorrent module (apt: python3-libtorrent)"
