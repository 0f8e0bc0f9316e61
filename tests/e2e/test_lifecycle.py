# SPDX-License-Identifier: MIT
"""Start, stop, crash, restart, interfaces that come and go, other people's programs and rules."""
import http.client
import json
import os
import shutil
import signal
import subprocess
import time
import unittest

from btblock import BINARY, Btblock
from network import Lab, OTHER, WEB, host, wait_until
from probe import Probe, blocks_dht, dht_query, passes
from swarm import Swarm, missing_libtorrent, script

FOREIGN_XDP = """
struct xdp_md;
__attribute__((section("xdp"), used)) int foreign_pass(struct xdp_md *context) { (void)context; return 2; }
char license_text[] __attribute__((section("license"), used)) = "GPL";
"""


class Lifecycle(unittest.TestCase):
    def assert_enforcing(self, lab):
        self.assertTrue(blocks_dht(lab), "a DHT query passes")
        self.assertTrue(passes(lab), "ordinary datagrams do not pass")

    def assert_open(self, lab):
        self.assertFalse(blocks_dht(lab), "a DHT query is still stopped")
        self.assertTrue(passes(lab))

    # ---- ending

    def test_sigterm_leaves_nothing(self):
        with Lab() as lab:
            rules = lab.rules()
            with Btblock(lab) as btblock:
                self.assert_enforcing(lab)
                self.assertTrue(btblock.pins())
                programs = {number for _, _, number in lab.programs()}
                self.assertGreaterEqual(len(programs), 2, "no program on the way in, or none on the way out")
                self.assertEqual({device for device, _ in btblock.attached()}, {"lan0", "wan0"})
                self.assertEqual(btblock.stop(), 0)
                self.assertEqual(btblock.clean_after(rules), [])
                self.assertTrue(wait_until(lambda: not lab.loaded(programs), 3), "programs are still loaded")
            self.assert_open(lab)

    def test_sigint_leaves_nothing(self):
        with Lab() as lab:
            rules = lab.rules()
            with Btblock(lab) as btblock:
                self.assertEqual(btblock.stop(signal.SIGINT), 0)
                self.assertEqual(btblock.clean_after(rules), [])

    def test_persist(self):
        with Lab() as lab:
            rules = lab.rules()
            with Btblock(lab, settings=["persist=true"]) as btblock, Probe(lab, OTHER) as probe:
                btblock.ban(host(OTHER), "--for", "1h")
                self.assertEqual(btblock.stop(), 0)
                self.assertFalse(probe.outwards(), "the ban is gone")
                with Probe(lab, WEB) as other:
                    self.assertTrue(other.both_ways())
                    self.assertFalse(other.outwards(dht_query()), "kernel detection is gone")
                btblock.cli("detach")
                self.assertEqual(btblock.clean_after(rules), [])
                self.assertTrue(probe.both_ways())

    def test_sigkill(self):
        """Bans and kernel detection go on, other traffic flows, a restart takes over, detach ends it all."""
        with Lab() as lab:
            rules = lab.rules()
            with Btblock(lab) as btblock, Probe(lab, OTHER) as banned:
                btblock.ban(host(OTHER), "--for", "1h")
                self.assertFalse(banned.outwards())
                server = lab.start(lab.internet, ["/usr/bin/python3", script("services.py"), "http", host(WEB), "8080", lab.dir],
                                   "http")
                self.assertTrue(server.wait_for("ready", 10))
                before = sum(btblock.detections().values())
                btblock.stop(signal.SIGKILL)

                for wait in (0, 4):  # with the lease still running, and after its end
                    time.sleep(wait)
                    self.assertFalse(banned.outwards(), "a ban ended with the daemon")
                    with Probe(lab, WEB) as probe:
                        self.assertTrue(probe.both_ways())
                        self.assertFalse(probe.outwards(dht_query()), "kernel detection ended with the daemon")
                    self.assertEqual(self.get(lab, "/q?a=1"), "/q?a=1")
                status = btblock.status()
                self.assertFalse(status["daemon"] is True, status["daemon"])
                self.assertGreater(sum(btblock.detections(status).values()), before)

                btblock.start()
                self.assertIn(host(OTHER), btblock.bans())
                self.assertFalse(banned.outwards(), "a restart loses bans")
                with Probe(lab, WEB) as probe:
                    self.assertTrue(probe.both_ways())
                    self.assertFalse(probe.outwards(dht_query()))

                btblock.cli("detach")
                self.assertIsNotNone(btblock.process.wait(10), "the daemon outlives detach")
                self.assertEqual(btblock.clean_after(rules), [])
                self.assertTrue(banned.both_ways())

    def test_sigkill_in_a_transfer(self):
        """A client that runs while the daemon dies gets nothing either, and starting anew is no gap."""
        if missing_libtorrent():
            self.skipTest(missing_libtorrent())
        with Lab() as lab, Btblock(lab) as btblock:
            swarm = Swarm(lab, transport="both")
            first = swarm.leech()
            self.assertTrue(btblock.wait_detection(10))
            btblock.stop(signal.SIGKILL)
            second = swarm.leech()
            time.sleep(5)
            self.assertEqual((first.payload(), second.payload()), (0, 0))
            btblock.start()
            time.sleep(3)
            self.assertEqual((first.payload(), second.payload()), (0, 0))

    def test_detach_after_sigkill(self):
        with Lab() as lab:
            rules = lab.rules()
            with Btblock(lab) as btblock:
                btblock.stop(signal.SIGKILL)
                self.assertTrue(btblock.pins())
                btblock.cli("detach")
                self.assertEqual(btblock.clean_after(rules), [])
                self.assert_open(lab)

    def get(self, lab, path):
        with lab.inside(lab.client):
            connection = http.client.HTTPConnection(host(WEB), 8080, timeout=5)
            connection.connect()
        connection.request("GET", path)
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    # ---- starting

    def refused(self, btblock, *arguments, codes, names, command=None):
        """A start that must fail with one of the exit codes and a message that has all the names."""
        argv = command or btblock.argv("run", *(arguments or btblock.run_arguments()))
        done = btblock.lab.run(btblock.lab.gateway, argv, check=False, timeout=30)
        text = done.stdout + done.stderr
        self.assertIn(done.returncode, codes, text)
        for name in names:
            self.assertIn(name, text)
        self.assertNotIn("terminate called", text)

    def test_second_daemon(self):
        with Lab() as lab, Btblock(lab) as btblock:
            self.refused(btblock, codes=(1, 5), names=[btblock.instance])
            self.assertTrue(btblock.process.running())
            self.assert_enforcing(lab)

    def test_two_instances(self):
        """Instances side by side in two network namespaces do not know each other."""
        with Lab() as one, Lab.named("second") as two, Btblock(one) as first, Btblock(two) as second:
            first.ban(host(OTHER))
            with Probe(one, OTHER) as here, Probe(two, OTHER) as there:
                self.assertFalse(here.outwards())
                self.assertTrue(there.both_ways())
            self.assertTrue(blocks_dht(two))
            second.stop()
            with Probe(one, WEB) as probe:
                self.assertFalse(probe.outwards(dht_query()))

    def test_unknown_interface(self):
        with Lab() as lab:
            rules = lab.rules()
            btblock = Btblock(lab, "nosuch0")
            self.refused(btblock, codes=(1, 2), names=["nosuch0"])
            self.assertEqual(btblock.clean_after(rules), [])
            btblock.forget_state()

    def test_bad_setting(self):
        with Lab() as lab:
            rules = lab.rules()
            btblock = Btblock(lab, settings=["ban.durration=5"])
            self.refused(btblock, codes=(1, 2), names=["ban.durration", "ban.duration"])
            self.assertEqual(btblock.clean_after(rules), [])
            btblock.forget_state()

    def test_no_privilege(self):
        with Lab() as lab:
            rules = lab.rules()
            btblock = Btblock(lab)
            os.chmod(lab.dir, 0o755)
            shutil.copy(BINARY, lab.file("btblock"))
            os.chmod(lab.file("btblock"), 0o755)
            argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", lab.file("btblock"),
                    *btblock.argv("run", *btblock.run_arguments())[1:]]
            self.refused(btblock, codes=(1, 5), names=["CAP_NET_ADMIN"], command=argv)
            self.assertEqual(btblock.clean_after(rules), [])

    # ---- other people's things

    def foreign_xdp(self, lab):
        with open(lab.file("foreign.c"), "w") as f:
            f.write(FOREIGN_XDP)
        subprocess.run(["clang", "-target", "bpf", "-O2", "-g", "-c", lab.file("foreign.c"), "-o", lab.file("foreign.o")],
                       check=True)
        lab.run(lab.gateway, ["ip", "link", "set", "dev", "lan0", "xdp", "obj", lab.file("foreign.o"), "sec", "xdp"])
        return self.xdp_id(lab)

    def xdp_id(self, lab):
        link, = json.loads(lab.run(lab.gateway, ["ip", "-j", "link", "show", "dev", "lan0"]).stdout)
        return link.get("xdp", {}).get("prog", {}).get("id")

    @unittest.skipUnless(shutil.which("clang"), "no clang to make a foreign XDP program")
    def test_foreign_xdp_auto(self):
        with Lab() as lab:
            foreign = self.foreign_xdp(lab)
            self.assertTrue(foreign)
            with Btblock(lab) as btblock:
                self.assertIn("xdp", btblock.process.output().lower())
                self.assert_enforcing(lab)
                interface, = [i for i in btblock.status()["interfaces"] if i["name"] == "lan0"]
                self.assertNotIn(interface["xdp"], ("native", "generic"), interface)
                self.assertEqual(self.xdp_id(lab), foreign)
            self.assertEqual(self.xdp_id(lab), foreign, "the foreign program is gone")

    @unittest.skipUnless(shutil.which("clang"), "no clang to make a foreign XDP program")
    def test_foreign_xdp_native(self):
        with Lab() as lab:
            rules = lab.rules()
            foreign = self.foreign_xdp(lab)
            btblock = Btblock(lab, settings=["xdp=native"])
            self.refused(btblock, codes=(5,), names=["lan0"])
            self.assertEqual(self.xdp_id(lab), foreign)
            lab.run(lab.gateway, ["ip", "link", "set", "dev", "lan0", "xdp", "off"])
            self.assertEqual(btblock.clean_after(rules), [])
            btblock.forget_state()

    def test_user_rules(self):
        """The user's rules stay as they are and are asked for every packet, also for those the daemon has judged."""
        with Lab() as lab:
            lab.run(lab.gateway, ["iptables", "-N", "MINE"])
            for rule in (["-A", "FORWARD", "-j", "MINE"], ["-A", "MINE", "-p", "tcp", "--dport", "8081", "-j", "REJECT"],
                         ["-A", "MINE", "-p", "tcp", "--dport", "8080", "-j", "RETURN"],
                         ["-t", "raw", "-A", "PREROUTING", "-p", "udp", "--dport", "9999", "-j", "DROP"]):
                lab.run(lab.gateway, ["iptables", *rule])
            rules = lab.rules()
            for port in ("8080", "8081"):
                server = lab.start(lab.internet, ["/usr/bin/python3", script("services.py"), "http", host(WEB), port, lab.dir],
                                   "http")
                self.assertTrue(server.wait_for("ready", 10))
            with Btblock(lab) as btblock:
                self.assertEqual([rule for rule in rules if rule not in lab.rules()], [])
                before = self.counted(lab)
                self.assertEqual(self.get(lab, "/q?judged=by&the=daemon"), "/q?judged=by&the=daemon")
                self.assertGreater(btblock.status()["packets"]["punted"], 0, "no packet went to the daemon")
                sent = self.counted(lab) - before
                self.assertGreaterEqual(sent, 4, "SYN, ACK, the request and FIN at least pass the user's chain")
                with lab.inside(lab.client), self.assertRaises(ConnectionRefusedError):
                    http.client.HTTPConnection(host(WEB), 8081, timeout=5).connect()
                self.assertEqual(btblock.stop(), 0)
                self.assertEqual(btblock.clean_after(rules), [])

    @staticmethod
    def counted(lab):
        for line in lab.run(lab.gateway, ["iptables", "-nvxL", "MINE"]).stdout.splitlines():
            if "RETURN" in line:
                return int(line.split()[0])
        raise RuntimeError("the user's rule is gone")

    def test_iptables_backend(self):
        with Lab() as lab:
            rules = lab.rules()
            with Btblock(lab, settings=["firewall=iptables"]) as btblock:
                self.assertNotEqual(lab.rules(), rules)
                self.assert_enforcing(lab)
                self.assertEqual(btblock.stop(), 0)
                self.assertEqual(btblock.clean_after(rules), [])

    # ---- interfaces

    def test_interface_comes_and_goes(self):
        with Lab() as lab, Btblock(lab, "lan0,late0") as btblock:
            def attached(wanted):
                return wait_until(lambda: ("late0" in [entry[0] for entry in btblock.attached()]) == wanted, 10)

            self.assertTrue(attached(False))
            self.assert_enforcing(lab)
            lab.add_namespace(f"{lab.prefix}-late")
            for _ in range(2):
                lab.connect(f"{lab.prefix}-late", "eth0", lab.gateway, "late0")
                self.assertTrue(attached(True), "late0 is not attached")
                self.assertIn("late0", [i["name"] for i in btblock.status()["interfaces"]])
                lab.ip(lab.gateway, "link del late0")
                self.assertTrue(attached(False))
            self.assertTrue(btblock.process.running())
            self.assertFalse([pin for pin in btblock.pins() if "late0" in pin], "dead pins of late0")
            self.assert_enforcing(lab)

    # ---- what it reports

    def test_status_contract(self):
        with Lab() as lab, Btblock(lab) as btblock:
            self.assertTrue(blocks_dht(lab))
            status = btblock.status()
            wanted = {
                None: ("version", "instance", "mode", "daemon", "interfaces", "packets", "drops", "detections", "bans",
                       "flows", "sockets", "queue", "events", "announce_leaked"),
                "packets": ("seen", "passed", "dropped", "punted"),
                "drops": ("ban", "socket", "peer", "flow", "detected"),
                "bans": ("entries", "capacity"), "flows": ("entries", "capacity"), "sockets": ("entries", "capacity"),
                "queue": ("depth", "dropped", "failed_open"), "events": ("sent", "lost"),
            }
            for part, keys in wanted.items():
                for key in keys:
                    self.assertIn(key, status[part] if part else status, part)
            self.assertEqual(status["instance"], btblock.instance)
            self.assertEqual(sorted(i["name"] for i in status["interfaces"]), ["lan0", "wan0"])
            for interface in status["interfaces"]:
                for key in ("name", "ifindex", "link", "xdp", "tc"):
                    self.assertIn(key, interface)
            self.assertEqual(status["detections"].get("dht.query"), 1)
            self.assertGreaterEqual(status["packets"]["dropped"], 1)
            self.assertGreaterEqual(status["sockets"]["entries"], 1)

    def test_events(self):
        with Lab() as lab, Btblock(lab) as btblock:
            follower = lab.start(lab.gateway, btblock.argv("events", "--follow", "-o", "json"), "events")
            time.sleep(0.5)
            with Probe(lab, OTHER) as probe:
                self.assertFalse(probe.outwards(dht_query()))
                source, target = probe.here.getsockname()[:2], probe.there.getsockname()[:2]
            self.assertTrue(follower.wait_for('"detection"', 5), follower.output())
            event = next(e for e in map(json.loads, follower.output().splitlines()) if e["event_type"] == "detection")
            self.assertEqual((event["src_ip"], event["src_port"]), source)
            self.assertEqual((event["dest_ip"], event["dest_port"]), target)
            self.assertEqual(event["proto"].lower(), "udp")
            self.assertEqual(event["in_iface"], "lan0")
            self.assertIn("dht.query", event["btblock"]["evidence"])
            self.assertEqual(event["btblock"]["client"], source[0])
            for key in ("timestamp", "community_id"):
                self.assertIn(key, event)
            for key in ("action", "peer", "hook", "mode", "schema"):
                self.assertIn(key, event["btblock"])
            follower.stop(signal.SIGINT)
