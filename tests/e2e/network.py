# SPDX-License-Identifier: MIT
"""Lab: a client, a gateway and an internet, each in a network namespace of its own.

    client  eth0 ---- lan0  gateway  wan0 ---- eth0  internet
    10.77.1.2         10.77.1.1  203.0.113.1         203.0.113.10 ...
    fd77:1::2         fd77:1::1  2001:db8:77::1      2001:db8:77::10 ...

Use it inside isolate.isolated(); then nothing of it outlives the process.
"""
import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time

from isolate import CLONE_NEWNET, libc

CLIENT4, CLIENT6 = "10.77.1.2", "fd77:1::2"
LAN4, LAN6 = "10.77.1.1", "fd77:1::1"
WAN4, WAN6 = "203.0.113.1", "2001:db8:77::1"
SEEDER, TRACKER, WEB, OTHER, ROUTER = 10, 20, 30, 40, 254  # hosts of the internet namespace
DHT_NODES = (51, 52, 53, 54, 55, 56)
HOSTS = (SEEDER, TRACKER, WEB, OTHER, ROUTER, *DHT_NODES)


def host4(n):
    return f"203.0.113.{n}"


def host6(n):
    return f"2001:db8:77::{n}"


def host(n, family=4):
    return host6(n) if family == 6 else host4(n)


def client(family=4):
    return CLIENT6 if family == 6 else CLIENT4


def bracket(address):
    return f"[{address}]" if ":" in address else address


BPF_PROG_QUERY, TCX_INGRESS, TCX_EGRESS = 16, 46, 47
SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280}[os.uname().machine]


def attached_programs(ifindex, attach_type):
    """Ids of the tcx programs on a device of this thread's network namespace; Debian 12's bpftool knows no tcx."""
    ids = (ctypes.c_uint32 * 64)()
    # target, attach_type, query_flags, attach_flags, address of the ids, room for so many; the rest is zero
    request = ctypes.create_string_buffer(struct.pack("=IIIIQI", ifindex, attach_type, 0, 0, ctypes.addressof(ids), 64), 128)
    if libc.syscall(SYS_BPF, BPF_PROG_QUERY, request, 64) != 0:
        return []  # kernels before 6.6
    count, = struct.unpack_from("=I", request, 24)
    return list(ids[:count])


def wait_until(condition, timeout, step=0.05):
    """The first true value of condition() within timeout seconds, else its last value."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(step)


class Process:
    """A program running in a namespace; its output goes to a file."""

    def __init__(self, argv, log, env=None):
        self.argv, self.log = argv, log
        with open(log, "wb") as out:
            self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                          start_new_session=True, env=env)

    @property
    def pid(self):
        return self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def output(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def send(self, number):
        self.popen.send_signal(number)

    def wait(self, timeout):
        """Exit code (negative: signal), or None after timeout seconds."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, number=signal.SIGTERM, timeout=5):
        if self.running():
            self.send(number)
            if self.wait(timeout) is None:
                self.send(signal.SIGKILL)
                self.wait(5)
        return self.popen.returncode

    def wait_for(self, text, timeout):
        """Waits for a line with text in the output; false when the program ended or time is up."""
        return bool(wait_until(lambda: text in self.output() or not self.running(), timeout)) and text in self.output()


class Tunnel:
    """Two tun devices in two namespaces, with a thread that carries packets between them."""

    TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000

    def __init__(self, lab, *ends):
        self.fds = []
        for ns, device in ends:
            with lab.inside(ns):
                fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
                fcntl.ioctl(fd, self.TUNSETIFF, struct.pack("16sH22x", device.encode(), self.IFF_TUN | self.IFF_NO_PI))
            self.fds.append(fd)
            lab.ip(ns, f"link set {device} txqueuelen 5000\nlink set {device} up")
        self.stop, self.wake = os.pipe()
        self.thread = threading.Thread(target=self._carry, daemon=True)
        self.thread.start()

    def _carry(self):
        across = dict(zip(self.fds, reversed(self.fds)))
        while True:
            ready, _, _ = select.select([*self.fds, self.stop], [], [])
            if self.stop in ready:
                return
            for fd in ready:
                with contextlib.suppress(OSError):  # nothing left to read, or the other device is down
                    for _ in range(64):
                        os.write(across[fd], os.read(fd, 65536))

    def close(self):
        os.close(self.wake)
        self.thread.join()
        for fd in (*self.fds, self.stop):
            os.close(fd)


class Lab:
    def __init__(self, nat=False, default_route=True, offloads=False, tun=False):
        """default_route: whether the gateway's way out is its default route, as on a real one.
        offloads: leave segmentation and checksum offload on, so that the gateway sees GSO packets.
        tun: the client comes in over a tunnel device without Ethernet headers, as from a VPN."""
        self.nat, self.default_route, self.offloads, self.tun = nat, default_route, offloads, tun
        self.tunnel = None
        self.prefix = f"bt{os.environ.get('BTBLOCK_E2E_ID', os.getpid())}"
        self.client, self.gateway, self.internet = (f"{self.prefix}-{n}" for n in ("client", "gateway", "internet"))
        self.processes = []
        self.dir = None
        self.extra_namespaces = []

    @classmethod
    def named(cls, name, **options):
        """One more lab beside an unnamed one."""
        lab = cls(**options)
        lab.prefix += f"-{name}"
        lab.client, lab.gateway, lab.internet = (f"{lab.prefix}-{n}" for n in ("client", "gateway", "internet"))
        return lab

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="lab-", dir="/run")  # private, see isolate.py
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for process in reversed(self.processes):
            process.stop(timeout=3)
        if self.tunnel:
            self.tunnel.close()
        for ns in (self.client, self.gateway, self.internet, *self.extra_namespaces):
            if os.path.exists(f"/run/netns/{ns}"):
                subprocess.run(["ip", "netns", "del", ns], check=False)
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    # ---- building

    def _build(self):
        for ns in (self.client, self.gateway, self.internet):
            self.add_namespace(ns)
        if self.tun:
            self.tunnel = Tunnel(self, (self.client, "eth0"), (self.gateway, "lan0"))
        else:
            self.connect(self.client, "eth0", self.gateway, "lan0")
        self.connect(self.internet, "eth0", self.gateway, "wan0")
        self.ip(self.client, f"""
            addr add {CLIENT4}/24 dev eth0
            addr add {CLIENT6}/64 dev eth0 nodad
            route add default via {LAN4} dev eth0
            route add default via {LAN6} dev eth0""")
        self.ip(self.gateway, f"""
            addr add {LAN4}/24 dev lan0
            addr add {LAN6}/64 dev lan0 nodad
            addr add {WAN4}/24 dev wan0
            addr add {WAN6}/64 dev wan0 nodad""")
        if self.default_route:
            self.ip(self.gateway, f"route add default via {host4(ROUTER)}\nroute add default via {host6(ROUTER)}")
        addresses = "\n".join(f"addr add {host4(n)}/24 dev eth0\naddr add {host6(n)}/64 dev eth0 nodad" for n in HOSTS)
        self.ip(self.internet, addresses)
        if not self.nat:
            self.ip(self.internet, f"route add 10.77.1.0/24 via {WAN4}\nroute add fd77:1::/64 via {WAN6}")
        self.run(self.gateway, ["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        if self.nat:
            for iptables in ("iptables", "ip6tables"):
                self.run(self.gateway, [iptables, "-t", "nat", "-A", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE"])
        self.wait_reachable()

    def add_namespace(self, ns):
        subprocess.run(["ip", "netns", "add", ns], check=True)
        self.run(ns, ["sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"])
        self.ip(ns, "link set lo up")
        if ns not in (self.client, self.gateway, self.internet):
            self.extra_namespaces.append(ns)

    def connect(self, ns, device, peer_ns, peer_device):
        """A veth pair between two namespaces, up on both sides."""
        self.ip(ns, f"link add {device} type veth peer name {peer_device} netns {peer_ns}")
        for n, d in ((ns, device), (peer_ns, peer_device)):
            if not self.offloads:
                self.run(n, ["ethtool", "-K", d, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off",
                             "sg", "off"])
            self.ip(n, f"link set {d} up")

    def wait_reachable(self):
        for address in (host4(SEEDER), host6(SEEDER)):
            if not wait_until(lambda: self.ping(self.client, address), 5):
                raise RuntimeError(f"{address} cannot be reached from the client")

    # ---- using

    def ip(self, ns, batch):
        self.run(ns, ["ip", "-batch", "-"], input="\n".join(line.strip() for line in batch.splitlines()) + "\n")

    def enter(self, ns, argv):
        return ["nsenter", f"--net=/run/netns/{ns}", "--", *argv]

    def run(self, ns, argv, check=True, timeout=30, input=None, env=None):
        """Runs a program to its end; stdout and stderr are texts. check: raise when it fails."""
        done = subprocess.run(self.enter(ns, argv), input=input, stdin=None if input is not None else subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                              timeout=timeout, env=env)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def start(self, ns, argv, name, env=None):
        path = os.path.join(self.dir, f"{name}-{len(self.processes)}.log")
        process = Process(self.enter(ns, argv), path, env)
        self.processes.append(process)
        return process

    @contextlib.contextmanager
    def inside(self, ns):
        """Sockets made by this thread in the block belong to ns, also after the block."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{ns}", os.O_RDONLY)
        try:
            if libc.setns(there, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {ns}")
            try:
                yield
            finally:
                if libc.setns(before, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns back")
        finally:
            os.close(before)
            os.close(there)

    def ping(self, ns, address, count=1, timeout=1):
        argv = ["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", str(timeout), address]
        return self.run(ns, argv, check=False).returncode == 0

    def file(self, name):
        return os.path.join(self.dir, name)

    def random_file(self, name, size):
        path = self.file(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            for _ in range(size >> 20):
                f.write(os.urandom(1 << 20))
            f.write(os.urandom(size & ((1 << 20) - 1)))
        return path

    def rules(self):
        """The packet filter of the gateway, a line for each rule, chain and table: to compare before and after.
        Left out are counters, handles and the empty built-in tables and chains that iptables makes by itself."""
        lines = []
        for iptables in ("iptables", "ip6tables"):
            for table in ("raw", "mangle", "nat", "filter"):
                done = self.run(self.gateway, [iptables, "-t", table, "-S"], check=False)
                lines += [f"{iptables} -t {table} {line}" for line in done.stdout.splitlines() if not line.startswith("-P")]
        for item in json.loads(self.run(self.gateway, ["nft", "-j", "list", "ruleset"]).stdout)["nftables"]:
            (kind, what), = item.items()
            if kind == "metainfo" or (kind == "table" and what["name"] in ("raw", "mangle", "nat", "filter")):
                continue
            if kind == "chain" and what["table"] in ("raw", "mangle", "nat", "filter") and "hook" in what:
                continue
            what = {k: v for k, v in what.items() if k != "handle"}
            if kind == "rule":
                what["expr"] = [e for e in what["expr"] if "counter" not in e and "xt" not in e]
            lines.append(f"nft {kind} {json.dumps(what, sort_keys=True)}")
        return lines

    def programs(self):
        """BPF programs attached to the gateway's devices: (device, hook, program id), hook tcx, tc or xdp."""
        links = json.loads(self.run(self.gateway, ["ip", "-j", "link"]).stdout)
        found = [(link["ifname"], "xdp", link["xdp"]["prog"]["id"]) for link in links if "prog" in link.get("xdp", {})]
        with self.inside(self.gateway):
            found += [(link["ifname"], "tcx", number) for link in links for direction in (TCX_INGRESS, TCX_EGRESS)
                      for number in attached_programs(link["ifindex"], direction)]
        for part in json.loads(self.run(self.gateway, ["bpftool", "-j", "net", "show"]).stdout):
            found += [(entry["devname"], "tc", entry["id"]) for entry in part.get("tc", []) if entry["kind"].startswith("clsact")]
        return sorted(set(found))

    def loaded(self, programs):
        """Those of the program ids that the kernel still has."""
        return [n for n in programs if self.run(self.gateway, ["bpftool", "prog", "show", "id", str(n)], check=False).returncode == 0]
