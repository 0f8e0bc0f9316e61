# SPDX-License-Identifier: MIT
"""Other people's programs, rules and marks keep working beside ours: theirs before ours, and ours before theirs."""
import shutil
import subprocess
import unittest

from btblock import Btblock
from network import LAN4, Lab, OTHER, WEB, host
from probe import Probe, blocks_dht, passes, udp
from stream import Requests
from swarm import script

BLOCKED = 9999  # the port that the other people's filter drops
THEIRS = """
struct __sk_buff;
static long (*load_bytes)(const struct __sk_buff *, unsigned, void *, unsigned) = (void *)26;
__attribute__((section("tc"), used)) int theirs(struct __sk_buff *skb)
{
	unsigned char port[2];
	return load_bytes(skb, 36, port, 2) == 0 && port[0] == 0x27 && port[1] == 0x0f ? 2 : -1;
}
char license_text[] __attribute__((section("license"), used)) = "GPL";
"""


class Coexist(unittest.TestCase):
    def web(self, lab):
        server = lab.start(lab.internet, ["/usr/bin/python3", script("services.py"), "http", host(WEB), "8080", lab.dir], "web")
        self.assertTrue(server.wait_for("ready", 10))

    def assert_punted_request_passes(self, lab, btblock):
        before = btblock.status()["packets"]["punted"]
        self.assertTrue(Requests(lab, host(WEB)).get("/q?judged=by&the=daemon", timeout=5))
        self.assertGreater(btblock.status()["packets"]["punted"], before, "no packet went to the daemon")

    # ---- traffic control

    def their_filter(self, lab):
        if not shutil.which("clang"):
            self.skipTest("no clang to make a foreign program")
        with open(lab.file("theirs.c"), "w") as f:
            f.write(THEIRS)
        subprocess.run(["clang", "-target", "bpf", "-O2", "-c", lab.file("theirs.c"), "-o", lab.file("theirs.o")], check=True)
        lab.run(lab.gateway, ["tc", "qdisc", "add", "dev", "lan0", "clsact"])
        lab.run(lab.gateway, ["tc", "filter", "add", "dev", "lan0", "ingress", "prio", "7", "bpf", "da", "obj",
                              lab.file("theirs.o"), "sec", "tc"])

    def arrives_at_their_port(self, lab):
        with udp(lab, lab.client, "10.77.1.2") as here, udp(lab, lab.internet, host(WEB), BLOCKED) as there:
            here.sendto(b"\x17 theirs", there.getsockname())
            try:
                return bool(there.recv(100))
            except TimeoutError:
                return False

    def check_both_filter(self, lab):
        self.assertFalse(self.arrives_at_their_port(lab), "their filter is bypassed")
        self.assertTrue(blocks_dht(lab), "ours is bypassed")
        self.assertTrue(passes(lab))

    def test_their_tc_filter_first(self):
        with Lab() as lab:
            self.assertTrue(self.arrives_at_their_port(lab))
            self.their_filter(lab)
            with Btblock(lab) as btblock:
                self.check_both_filter(lab)
                btblock.stop()
            self.assertFalse(self.arrives_at_their_port(lab), "their filter went with ours")
            self.assertFalse(blocks_dht(lab))

    def test_their_tc_filter_later(self):
        with Lab() as lab:
            with Btblock(lab) as btblock:
                self.their_filter(lab)
                self.check_both_filter(lab)
                lab.run(lab.gateway, ["tc", "filter", "del", "dev", "lan0", "ingress", "prio", "7"])
                self.assertTrue(self.arrives_at_their_port(lab))
                self.assertTrue(blocks_dht(lab), "our program went with theirs")
                btblock.stop()

    # ---- marks and policy routing

    def test_policy_routing_by_mark(self):
        """As wg-quick and Tailscale do it: routing looks at the mark, and no bit of ours may be left in it."""
        with Lab() as lab:
            self.web(lab)
            for rule in ("rule add not fwmark 51820 table 51820 pref 3000", "rule add table main suppress_prefixlength 0 pref 2999",
                         "rule add fwmark 0x80000/0xff0000 table main pref 5210", "rule add fwmark 1 table 77 pref 100",
                         f"route add default via {host(254)} table 51820", "route add 203.0.113.0/24 dev wan0 table 77",
                         "route add 10.77.1.0/24 dev lan0 table 77"):
                lab.run(lab.gateway, ["ip", *rule.split()])
            lab.run(lab.gateway, ["iptables", "-t", "mangle", "-A", "PREROUTING", "-i", "lan0", "-j", "MARK", "--set-mark", "1"])
            # What does not carry exactly the user's mark after raw PREROUTING would be dropped here.
            lab.run(lab.gateway, ["iptables", "-A", "FORWARD", "-i", "lan0", "-m", "mark", "!", "--mark", "1", "-j", "DROP"])
            lab.run(lab.gateway, ["iptables", "-A", "FORWARD", "-i", "wan0", "-m", "mark", "!", "--mark", "0", "-j", "DROP"])
            with Btblock(lab) as btblock:
                self.assert_punted_request_passes(lab, btblock)
                self.assertTrue(blocks_dht(lab))
                self.assertTrue(passes(lab))

    def test_mark_bit_in_use(self):
        with Lab() as lab:
            lab.run(lab.gateway, ["ip", "rule", "add", "fwmark", "0x20000000/0x20000000", "table", "99"])
            refused = Btblock(lab)
            done = lab.run(lab.gateway, refused.argv("run", *refused.run_arguments()), check=False)
            self.assertEqual(done.returncode, 5, done.stderr)
            self.assertIn("mark_bit", done.stderr)
            with Btblock(lab, settings=["mark_bit=27"]) as btblock:
                self.web(lab)
                self.assert_punted_request_passes(lab, btblock)
                self.assertTrue(blocks_dht(lab))

    # ---- NAT and connection tracking

    def test_nat(self):
        """Masquerading, a forwarded port and tracked states: punted packets, bans and DHT as without."""
        with Lab(nat=True) as lab:
            self.web(lab)
            for rule in (["-A", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"],
                         ["-A", "FORWARD", "-i", "lan0", "-j", "ACCEPT"], ["-A", "FORWARD", "-m", "conntrack", "--ctstate",
                                                                         "INVALID,UNTRACKED", "-j", "DROP"]):
                lab.run(lab.gateway, ["iptables", *rule])
            with Btblock(lab) as btblock:
                self.assert_punted_request_passes(lab, btblock)
                self.assertTrue(blocks_dht(lab))
                with udp(lab, lab.client, "10.77.1.2") as here, udp(lab, lab.internet, host(OTHER), 4711) as there:
                    def answered():
                        here.sendto(b"\x17 question", there.getsockname())
                        try:
                            data, sender = there.recvfrom(100)
                            there.sendto(data, sender)
                            return bool(here.recv(100))
                        except TimeoutError:
                            return False
                    self.assertTrue(answered())
                    btblock.ban(host(OTHER))
                    self.assertFalse(answered())
                    btblock.cli("bans del", host(OTHER))
                    self.assertTrue(answered())

    # ---- who is never banned

    def test_administrator_is_never_banned(self):
        """The address that the session of the operator comes from."""
        with Lab() as lab:
            btblock = Btblock(lab)
            plain_start = lab.start
            lab.start = lambda ns, argv, name, env=None: plain_start(
                ns, ["env", f"SSH_CONNECTION={host(OTHER)} 50000 {LAN4} 22", *argv] if name == "btblock" else argv, name, env)
            with btblock, Probe(lab, OTHER) as probe:
                done = btblock.cli("bans add", host(OTHER), check=False)
                self.assertEqual(done.returncode, 5, done.stdout + done.stderr)
                self.assertIn(host(OTHER), done.stderr)
                self.assertTrue(probe.both_ways())
                self.assertEqual(btblock.cli("bans add", host(WEB), check=False).returncode, 0)
