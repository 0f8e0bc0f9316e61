# SPDX-License-Identifier: MIT
"""A banned address keeps sending while the program is restarted, killed, upgraded, told to reload, and while interfaces
flap: nothing of it passes. And bans outlive everything: crash, reboot, damaged files, changes made meanwhile."""
import contextlib
import json
import os
import signal
import time
import unittest

from btblock import Btblock
from network import CLIENT4, CLIENT6, LAN4, LAN6, Lab, OTHER, SEEDER, WEB, host, wait_until
from probe import Probe
from stream import Stream

PERSIST = ["persist=true"]


class NoGap(unittest.TestCase):
    @contextlib.contextmanager
    def banned(self, lab, btblock, family=4):
        """A stream that arrives, then is banned; at the end it must not have arrived since, and lifting the ban must
        bring it back, so that the silence was the ban's."""
        with Stream(lab, family=family) as stream:
            self.assertGreater(stream.arriving(), 500, "the stream does not run")
            btblock.ban(host(OTHER, family), "--for", "1h", "--comment", "no gap")
            # On a busy machine there are datagrams from before the ban that have not been read yet.
            self.assertTrue(wait_until(lambda: stream.arriving(0.3) == 0, 10), "the ban does not work")
            arrived, sent, began = stream.arrived, stream.sent, time.monotonic()
            yield stream
            took = time.monotonic() - began
            passed, sent = stream.arrived - arrived, stream.sent - sent
            print(f"\n{self._testMethodName}: {sent} packets in {took:.1f} s ({sent / took:.0f}/s), {passed} passed")
            self.assertEqual(passed, 0)
            self.assertGreater(sent, 1000)
            btblock.cli("bans del", host(OTHER, family))
            self.assertGreater(stream.arriving(), 500, "the stream does not come back")

    def test_a_ban_holds_at_once(self):
        """Also for what has been passing for a while and is no longer looked at closely. After an import, too."""
        address = host(OTHER)
        with Lab() as lab, Btblock(lab) as btblock, Stream(lab) as stream:
            path = lab.file("bans")
            with open(path, "w", encoding="ascii") as file:
                file.write(address + "\n")
            for command in (("bans add", address), ("bans import", path)) * 3:
                self.assertGreater(stream.arriving(1.5), 500, "the stream does not run")
                btblock.cli(*command)
                time.sleep(0.05)  # what came before the ban is read
                self.assertEqual(stream.arriving(1.2), 0, f"after {command[0]}")
                btblock.cli("bans del", address)

    def test_restart(self):
        with Lab() as lab, Btblock(lab, settings=PERSIST) as btblock, self.banned(lab, btblock):
            for _ in range(3):
                self.assertEqual(btblock.stop(), 0)
                btblock.start()

    def test_sigkill(self):
        with Lab() as lab, Btblock(lab) as btblock, self.banned(lab, btblock):
            for _ in range(3):
                btblock.stop(signal.SIGKILL)
                time.sleep(0.5)
                btblock.start()

    def test_ipv6_sigkill(self):
        with Lab() as lab, Btblock(lab) as btblock, self.banned(lab, btblock, 6):
            btblock.stop(signal.SIGKILL)
            btblock.start()

    def test_stop_detaches_until_ready(self):
        """SIGTERM without persist opens the gateway, as documented. From the word ready on the ban holds again."""
        with Lab() as lab, Btblock(lab) as btblock, Stream(lab) as stream:
            btblock.ban(host(OTHER), "--for", "1h", "--comment", "kept")
            self.assertEqual(btblock.stop(), 0)
            self.assertGreater(stream.arriving(), 500, "it is still attached")
            btblock.start()
            self.assertEqual(stream.arriving(1), 0)
            self.assertIn("kept", btblock.bans())

    def test_reload(self):
        with Lab() as lab:
            file = lab.file("btblock.toml")
            with open(file, "w") as f:
                f.write('interfaces = ["lan0", "wan0"]\n')
            btblock = Btblock(lab)
            btblock.run_arguments = lambda: ["-c", file]
            with btblock, self.banned(lab, btblock):
                for n in range(10):
                    interfaces = ["lan0"] if n % 2 else ["lan0", "wan0"]
                    with open(file, "w") as f:
                        f.write(f'interfaces = {json.dumps(interfaces)}\nban.after = {n + 1}\n'
                                f'whitelist_ports = [{n + 22}]\nallow = ["192.0.2.{n}"]\n')
                    btblock.process.send(signal.SIGHUP)
                    self.assertTrue(wait_until(lambda: f"192.0.2.{n}" in btblock.cli("allow list").stdout, 5))

    def test_upgrade(self):
        """The pins of another ABI: bans and links are taken over in place, and nothing of it is left."""
        with Lab() as lab:
            rules = lab.rules()
            with Btblock(lab) as btblock:
                with self.banned(lab, btblock):
                    for other in ("v0", "v9"):
                        before = lab.programs()
                        btblock.stop(signal.SIGKILL)
                        root = f"/sys/fs/bpf/btblock/{btblock.instance}"
                        current, = os.listdir(root)
                        os.rename(f"{root}/{current}", f"{root}/{other}")
                        btblock.start()
                        self.assertEqual(os.listdir(root), [current])
                        self.assertEqual(len(lab.programs()), len(before), "old programs are still attached")
                        old = {number for _, _, number in before}
                        self.assertTrue(wait_until(lambda: not lab.loaded(old), 3), "old programs are still loaded")
                        self.assertIn("no gap", btblock.bans())
                self.assertEqual(btblock.stop(), 0)
                self.assertEqual(btblock.clean_after(rules), [])

    def test_upgrade_from_a_shorter_ban(self):
        """The old ABI's entries end before the comment. The layout grows at its end only."""
        with Lab() as lab, Btblock(lab) as btblock, self.banned(lab, btblock):
            btblock.stop(signal.SIGKILL)
            root = f"/sys/fs/bpf/btblock/{btblock.instance}"
            current, = os.listdir(root)
            os.rename(f"{root}/{current}", f"{root}/v0")
            address = [0] * 10 + [0xff] * 2 + [int(part) for part in host(OTHER).split(".")]
            entry = [0] * 8 + [0xff] * 8 + [0] * 8 + [0] * 4 + [2, 0] + [0] * 2 + [0] * 16  # for ever, by hand
            os.unlink(f"{root}/v0/bt_bans")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"/var/lib/btblock/{btblock.instance}/state")  # it is only looked at when there are no pins
            lab.run(lab.gateway, ["bpftool", "map", "create", f"{root}/v0/bt_bans", "type", "hash", "key", "16",
                                  "value", "48", "entries", "64", "name", "bt_bans"])
            lab.run(lab.gateway, ["bpftool", "map", "update", "pinned", f"{root}/v0/bt_bans", "key", *map(str, address),
                                  "value", *map(str, entry)])
            btblock.start()
            self.assertIn("never", btblock.bans())

    def test_interfaces_flap(self):
        with Lab() as lab, Btblock(lab) as btblock, self.banned(lab, btblock):
            for device in ("lan0", "wan0") * 2:
                lab.ip(lab.gateway, f"link set {device} down")
                time.sleep(0.2)
                lab.ip(lab.gateway, f"link set {device} up")
                time.sleep(0.5)
            self.assertTrue(wait_until(lambda: lab.ping(lab.client, host(WEB)), 5))

    def test_interface_made_anew(self):
        with Lab() as lab, Btblock(lab) as btblock, self.banned(lab, btblock):
            for _ in range(2):
                lab.ip(lab.gateway, "link del lan0")
                time.sleep(0.3)
                lab.connect(lab.client, "eth0", lab.gateway, "lan0")
                lab.ip(lab.client, f"addr add {CLIENT4}/24 dev eth0\naddr add {CLIENT6}/64 dev eth0 nodad\n"
                                   f"route add default via {LAN4} dev eth0\nroute add default via {LAN6} dev eth0")
                lab.ip(lab.gateway, f"addr add {LAN4}/24 dev lan0\naddr add {LAN6}/64 dev lan0 nodad")
                self.assertTrue(wait_until(lambda: lab.ping(lab.client, host(WEB)), 5))
            self.assertTrue(wait_until(lambda: ("lan0", "tcx") in btblock.attached() or
                                       ("lan0", "tc") in btblock.attached(), 5), btblock.attached())


class Kept(unittest.TestCase):
    """What is on disk."""

    @staticmethod
    def file(btblock):
        return f"/var/lib/btblock/{btblock.instance}/state"

    def wait_saved(self, btblock, *texts):
        def saved():
            with contextlib.suppress(OSError), open(self.file(btblock)) as f:
                content = f.read()
                return all(text in content for text in texts)
            return False
        self.assertTrue(wait_until(saved, 10), texts)

    @staticmethod
    def reboot(btblock):
        """A power cut: the daemon dies, the pins are gone."""
        if btblock.process.running():
            btblock.stop(signal.SIGKILL)
        btblock.cli("detach")

    def test_reboot(self):
        with Lab() as lab, Btblock(lab) as btblock, Probe(lab, OTHER) as probe, Probe(lab, WEB) as other:
            btblock.ban(host(OTHER), "--for", "1h", "--comment", "seed box, 2nd")
            btblock.ban(host(SEEDER), "--for", "5s")
            btblock.cli("allow add", "198.51.100.0/24", "--comment", "a mirror", "--for", "2h")
            before, = (ban for ban in btblock.json("bans list")["bans"] if ban["address"] == host(OTHER))
            ends = time.time() + 5
            self.wait_saved(btblock, "seed box, 2nd", "a mirror", host(SEEDER))
            self.assertEqual(os.stat(self.file(btblock)).st_mode & 0o777, 0o600)
            self.reboot(btblock)
            self.assertTrue(probe.both_ways(), "the test is no test: the ban holds without the program")
            time.sleep(max(0, ends - time.time()) + 0.2)
            btblock.start()
            self.assertFalse(probe.outwards())
            self.assertFalse(probe.inwards())
            self.assertTrue(other.both_ways())
            after, = btblock.json("bans list")["bans"]
            for key in ("address", "comment", "manual", "expires", "evidence", "ports"):
                self.assertEqual(after[key], before[key], key)
            self.assertLess(after["remaining"], 3600 - 4)
            self.assertIn("a mirror", btblock.cli("allow list").stdout)
            btblock.cli("bans del", host(OTHER))
            btblock.cli("allow del", "198.51.100.0/24")
            self.assertTrue(wait_until(lambda: not os.path.exists(self.file(btblock)), 10), "an empty state is no file")

    def test_damaged_file(self):
        with Lab() as lab, Btblock(lab) as btblock, Probe(lab, OTHER) as probe:
            for damage in (lambda text: text[:-20], lambda text: text.replace(host(OTHER), host(WEB)), lambda _: "\0" * 99):
                btblock.ban(host(OTHER), "--for", "1h")
                self.wait_saved(btblock, host(OTHER))
                self.reboot(btblock)
                with open(self.file(btblock)) as f:
                    damaged = damage(f.read())
                with open(self.file(btblock), "w") as f:
                    f.write(damaged)
                btblock.start()
                self.assertIn(self.file(btblock), btblock.process.output())
                with open(self.file(btblock) + ".damaged") as f:
                    self.assertEqual(f.read(), damaged)
                self.assertNotIn(host(WEB), btblock.bans())
                self.assertTrue(probe.both_ways())

    def test_changes_without_the_daemon(self):
        with Lab() as lab, Btblock(lab) as btblock, Probe(lab, OTHER) as one, Probe(lab, WEB) as two:
            btblock.ban(host(OTHER), "--for", "1h")
            btblock.stop(signal.SIGKILL)
            btblock.cli("bans del", host(OTHER))
            btblock.ban(host(WEB), "--for", "1h", "--comment", "while it was away")
            with open(lab.file("list"), "w") as f:
                f.write("198.51.100.7\n")
            btblock.cli("bans import", lab.file("list"))
            self.reboot(btblock)
            btblock.start()
            self.assertTrue(one.both_ways(), "a deleted ban has come back")
            self.assertFalse(two.outwards(), "a ban made without the daemon is gone")
            self.assertIn("198.51.100.7", btblock.bans())
            self.assertIn("while it was away", btblock.bans())

    def test_unwritable(self):
        """No place to write: a warning, and everything else works."""
        with Lab() as lab:
            btblock = Btblock(lab)
            os.makedirs("/var/lib/btblock", exist_ok=True)
            with open(f"/var/lib/btblock/{btblock.instance}", "w"):
                pass
            try:
                with btblock, Probe(lab, OTHER) as probe:
                    btblock.ban(host(OTHER), "--for", "1h")
                    self.assertFalse(probe.outwards())
                    self.assertTrue(btblock.process.wait_for("not kept", 10), btblock.process.output())
                    self.assertEqual(btblock.stop(), 0)
            finally:
                os.unlink(f"/var/lib/btblock/{btblock.instance}")
