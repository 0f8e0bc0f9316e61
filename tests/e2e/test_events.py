# SPDX-License-Identifier: MIT
"""What operators read: events, the detection log."""
import datetime
import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import time
import unittest

from btblock import Btblock
from network import Lab, OTHER, TRACKER, client, host, wait_until
from probe import Probe, dht_query

ANNOUNCE = (b"GET /announce?info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A&peer_id=-TR2940-k8hj0wgej6ch&port=51413"
            b"&uploaded=0&downloaded=0&left=0&compact=1&event=started HTTP/1.1\r\nHost: tracker.example\r\n"
            b"User-Agent: Transmission/2.94\r\n\r\n")


def announce(lab, server, padding=b""):
    """A client asks a tracker over HTTP; returns what it sent."""
    with lab.inside(lab.client):
        sock = socket.socket()
    request = ANNOUNCE.replace(b"\r\n\r\n", b"\r\nX-Note: " + padding + b"\r\n\r\n") if padding else ANNOUNCE
    with sock:
        sock.settimeout(5)
        sock.connect(server.getsockname())
        sock.sendall(request)
    return request


class Tracker:
    """A listening socket of the tracker host."""

    def __init__(self, lab, port=6969):
        with lab.inside(lab.internet):
            self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((host(TRACKER), port))
        self.sock.listen(16)

    def __enter__(self):
        return self.sock

    def __exit__(self, *_):
        self.sock.close()


def blocks(path):
    """The detection log as a script of a btblocker user would take it apart."""
    try:
        with open(path, encoding="ascii", newline="") as file:
            text = file.read()
    except FileNotFoundError:
        return []
    found = []
    for part in text.split("=" * 80 + "\n")[1:]:
        head, dump, plain = re.fullmatch(r"(.*?)\n\nHex Dump:\n(.*?)\n\nASCII \(printable only\):\n(.*)\n\n", part, re.S).groups()
        found.append({"head": dict((line[:14].rstrip(": "), line[14:]) for line in head.splitlines()), "dump": dump, "text": plain})
    return found


class DetectionLog(unittest.TestCase):
    def test_detection_log(self):
        """A block for each detection: with payload where user space saw the packet. Mode 0600, rotated by SIGHUP."""
        with Lab() as lab:
            path = lab.file("detections.log")
            with Btblock(lab, settings=[f"detection_log={path}"]) as btblock, Tracker(lab) as tracker, Probe(lab, OTHER) as probe:
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
                request = announce(lab, tracker, b"n" * 600)
                found = wait_until(lambda: blocks(path), 10)
                self.assertTrue(found)  # one or more: the client sends it again
                head = found[0]["head"]
                self.assertRegex(head["Timestamp"], r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}$")
                self.assertEqual((head["Interface"], head["Protocol"]), ("lan0", "TCP"))
                self.assertRegex(head["Source"], rf"^{re.escape(client())}:\d+$")
                self.assertEqual(head["Destination"], f"{host(TRACKER)}:6969")
                self.assertIn("tracker.http", head["Detection"].split("+"))
                self.assertEqual(head["Payload Size"], f"{len(request)} bytes (showing first 512 bytes)")
                rows = found[0]["dump"].strip().splitlines()
                self.assertEqual(len(rows), 32)
                self.assertEqual(bytes.fromhex("".join(row[10:59] for row in rows).replace(" ", "")), request[:512])
                self.assertEqual(found[0]["text"], request[:512].decode())

                # The kernel decides about this one: its payload never reaches user space.
                query = dht_query()
                self.assertFalse(probe.outwards(query))
                found = wait_until(lambda: [b for b in blocks(path) if b["head"]["Protocol"] == "UDP"], 10)
                self.assertEqual(len(found), 1, found)
                self.assertEqual((found[0]["dump"], found[0]["text"]), ("(empty)", "(empty)"))
                self.assertEqual(found[0]["head"]["Payload Size"], f"{len(query)} bytes")
                self.assertIn("dht.query", found[0]["head"]["Detection"])

                os.rename(path, path + ".1")
                btblock.process.send(signal.SIGHUP)
                self.assertTrue(wait_until(lambda: os.path.exists(path), 10), "not opened anew")
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
                before = blocks(path + ".1")
                announce(lab, tracker)
                self.assertIn("announce", wait_until(lambda: blocks(path), 10)[0]["text"])
                self.assertEqual(blocks(path + ".1"), before)
                self.assertNotIn("not implemented", btblock.process.output())
                self.assertEqual(btblock.stop(), 0)

    def test_detection_log_cannot_be_written(self):
        """A bad path is refused at the start; a disk that is full later is told and nothing else happens."""
        with Lab() as lab:
            link = lab.file("link.log")
            os.symlink(lab.file("elsewhere"), link)
            for path, reason in ((link, "symbolic link"), (lab.file("none/detections.log"), "No such file")):
                refused = Btblock(lab, settings=[f"detection_log={path}"])
                done = refused.cli("run", *refused.run_arguments(), check=False)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(f"'{path}'", done.stderr)
                self.assertIn(reason, done.stderr)
            self.assertFalse(os.path.exists(lab.file("elsewhere")))
            with Btblock(lab, settings=["detection_log=/dev/full"]) as btblock, Tracker(lab) as tracker:
                for _ in range(3):
                    announce(lab, tracker)
                self.assertTrue(btblock.process.wait_for("cannot write detection log '/dev/full'", 10))
                self.assertTrue(wait_until(lambda: btblock.detections().get("tracker.http", 0) >= 3, 10))
                self.assertEqual(btblock.process.output().count("cannot write detection log"), 1)
                self.assertEqual(btblock.stop(), 0)


def schema_problems(lines):
    """What the JSON Schema says against lines of events; without jsonschema nothing is checked."""
    try:
        import jsonschema
    except ImportError:
        return []
    with open(os.path.join(os.path.dirname(__file__), "../../dist/btblock-event.schema.json"), encoding="utf-8") as file:
        validator = jsonschema.Draft202012Validator(json.load(file), format_checker=jsonschema.FormatChecker())
    return [f"{failure.json_path}: {failure.message}: {line}" for line in lines for failure in validator.iter_errors(json.loads(line))]


class Floods(unittest.TestCase):
    def test_like_events_are_counted(self):
        """200 detections of one client with the same evidence: ten a second are told, the rest by number, none is lost."""
        with Lab() as lab:
            path = lab.file("events.json")
            with Btblock(lab, settings=[f"events.file={path}", "ban.target=none"]) as btblock:
                sent = 200
                with lab.inside(lab.client):
                    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(sent)]
                for sock in sockets:  # all open at once: each has a port of its own
                    sock.sendto(dht_query(), (host(OTHER), 6881))
                for sock in sockets:
                    sock.close()
                self.assertTrue(wait_until(lambda: btblock.detections().get("dht.query") == sent, 10), btblock.detections())
                time.sleep(2.2)  # the second in which they came ends
                status = btblock.status()
                self.assertEqual(btblock.stop(), 0)
                with open(path, encoding="utf-8") as file:
                    lines = file.read().splitlines()
                self.assertEqual(schema_problems(lines), [])
                events = [json.loads(line) for line in lines]
                told = [e for e in events if e["event_type"] == "detection"]
                held = [e["btblock"] for e in events if e["event_type"] == "suppressed"]
                self.assertLess(len(told), 60, "the flood was told one by one")
                for own in held:
                    self.assertEqual((own["client"], own["evidence"]), (client(), ["dht.query"]))
                total = sum(own["count"] for own in held)
                self.assertEqual(len(told) + total, sent)
                self.assertEqual(status["events"]["suppressed"], total)
                self.assertEqual(status["events"]["limited"] + status["events"]["lost"], 0)


class RingConsumer(unittest.TestCase):
    def test_ring_consumer(self):
        """The example reads the pinned ring while the daemon is away, and leaves it alone while it is there."""
        source = os.path.join(os.path.dirname(__file__), "../..")
        with Lab() as lab, Btblock(lab) as btblock, Probe(lab, OTHER) as first, Probe(lab, OTHER) as second:
            consumer = lab.file("ring-consumer")
            flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libbpf"], capture_output=True, text=True, check=True)
            built = subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{source}/include",
                                    f"{source}/examples/ring-consumer/ring-consumer.c", *flags.stdout.split(), "-o", consumer],
                                   capture_output=True, text=True, check=False)
            self.assertEqual(built.returncode, 0, built.stderr)

            refused = lab.run(lab.gateway, [consumer, btblock.instance], check=False)
            self.assertEqual(refused.returncode, 5, refused.stderr)
            self.assertIn("events --follow", refused.stderr)
            nothing = lab.run(lab.gateway, [consumer, "no-such-instance"], check=False)
            self.assertEqual(nothing.returncode, 1)
            self.assertIn("/sys/fs/bpf/btblock/no-such-instance/", nothing.stderr)

            btblock.stop(signal.SIGKILL)
            self.assertFalse(first.outwards(dht_query()), "the kernel's detection ended with the daemon")
            waiting = lab.run(lab.gateway, [consumer, "-1", btblock.instance])  # what came while nobody read
            self.check(waiting.stdout.splitlines(), first)
            follower = lab.start(lab.gateway, [consumer, btblock.instance], "consumer")
            self.assertFalse(second.outwards(dht_query()))
            self.assertTrue(follower.wait_for("\n", 5), follower.output())
            self.check(follower.output().splitlines(), second)
            self.assertEqual(follower.stop(signal.SIGTERM), 0)

            # The daemon takes over again, and the example makes room.
            follower = lab.start(lab.gateway, [consumer, btblock.instance], "consumer")
            btblock.start()
            self.assertEqual(follower.wait(5), 0, follower.output())
            self.assertIn("the daemon has come back", follower.output())

    def check(self, lines, probe):
        self.assertEqual(schema_problems(lines), [])
        events = [json.loads(line) for line in lines]
        self.assertEqual(len(events), 1, lines)
        event = events[0]
        self.assertEqual((event["event_type"], event["proto"], event["in_iface"]), ("detection", "UDP", "lan0"))
        self.assertEqual((event["src_ip"], event["src_port"]), probe.here.getsockname()[:2])
        self.assertEqual((event["dest_ip"], event["dest_port"]), probe.there.getsockname()[:2])
        self.assertEqual(event["btblock"]["evidence"], ["dht.query"])
        self.assertEqual((event["btblock"]["action"], event["btblock"]["client"]), ("drop", client()))
        self.assertLess(abs(datetime.datetime.fromisoformat(event["timestamp"]).timestamp() - time.time()), 30)

    def test_evidence_names(self):
        """The program's names and the example's are one list, in the order of the codes."""
        with open(os.path.join(os.path.dirname(__file__), "../../include/btblock/abi.h"), encoding="utf-8") as file:
            text = file.read()
        names = re.findall(r'"([a-z.]+)"', text.split("#define BT_EVIDENCE_NAMES")[1].split("\n\n")[0])
        codes = re.findall(r"\bBT_EV_(\w+)", text.split("enum bt_evidence {")[1].split("BT_EV_COUNT")[0])
        self.assertEqual([name.upper().replace(".", "_") for name in names], codes)
        self.assertGreater(len(names), 20)


class StatusCommand(unittest.TestCase):
    def test_status_watch(self):
        """One block per interval, on a terminal in place; Ctrl-C ends it with exit code 0."""
        with Lab() as lab, Btblock(lab) as btblock:
            for arguments, pattern in ((["--watch=0.2"], r"(?m)^btblock .* enforcing, daemon running$"),
                                       (["--watch=0.2", "-o", "json"], r'(?m)^\{.*"daemon":true.*\}$')):
                watching = lab.start(lab.gateway, btblock.argv("status", *arguments), "watch")
                self.assertTrue(wait_until(lambda: len(re.findall(pattern, watching.output())) >= 3, 10), watching.output())
                self.assertNotIn("\x1b", watching.output())
                self.assertEqual(watching.stop(signal.SIGINT), 0)
            self.assertTrue(all(json.loads(line)["daemon"] for line in watching.output().splitlines()))

            master, slave = pty.openpty()
            watching = subprocess.Popen(lab.enter(lab.gateway, btblock.argv("status", "--watch", "0.2")), stdin=subprocess.DEVNULL,
                                        stdout=slave, stderr=slave, start_new_session=True, env={**os.environ, "TERM": "xterm"})
            os.close(slave)
            told = ""
            end = time.monotonic() + 10
            while told.count("daemon running") < 3 and time.monotonic() < end:
                told += os.read(master, 65536).decode()
            watching.send_signal(signal.SIGINT)
            self.assertEqual(watching.wait(5), 0)
            os.close(master)
            self.assertEqual(told.count("\x1b[2J"), 1, "the whole screen is cleared each time")
            self.assertGreaterEqual(told.count("\x1b[H"), 3)
            self.assertIn("\x1b[32menforcing\x1b[0m", told)

            # The daemon goes and comes back; the watch stays.
            watching = lab.start(lab.gateway, btblock.argv("status", "--watch=0.2"), "watch")
            self.assertTrue(watching.wait_for("daemon running", 5))
            btblock.stop()
            self.assertTrue(watching.wait_for("is not installed", 5), watching.output())
            self.assertEqual(watching.stop(signal.SIGTERM), 0)

    def test_status_names_pins_of_another_version(self):
        with Lab() as lab:
            btblock = Btblock(lab)
            nothing = btblock.cli("status", check=False)
            self.assertEqual(nothing.returncode, 3)
            self.assertIn("is not installed", nothing.stderr)
            with btblock:
                pass
            old = f"/sys/fs/bpf/btblock/{btblock.instance}/v1"  # as another version leaves it
            os.makedirs(f"{old}/links")
            told = btblock.cli("status", check=False)
            self.assertEqual(told.returncode, 3, told.stdout)
            self.assertNotIn("not installed", told.stderr)
            for part in (old, "another version", "btblock run", "btblock detach"):
                self.assertIn(part, told.stderr)
            btblock.cli("detach")
            self.assertFalse(os.path.exists(old))
