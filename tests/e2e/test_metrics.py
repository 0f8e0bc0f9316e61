# SPDX-License-Identifier: MIT
"""What Prometheus reads: the listener, the text file; rules and dashboard against a real exposition."""
import glob
import http.client
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import time
import unittest
import urllib.parse

from btblock import Btblock
from network import Lab, OTHER, wait_until
from probe import Probe, dht_query

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RULES = os.path.join(ROOT, "dist/prometheus/btblock.rules.yml")
DASHBOARD = os.path.join(ROOT, "dist/grafana/btblock.json")
PORT = 9478


def ask(lab, path="/metrics", method="GET", body=None, address="127.0.0.1"):
    """Status, headers and text of an answer."""
    with lab.inside(lab.gateway):
        connection = http.client.HTTPConnection(address, PORT, timeout=5)
        connection.connect()
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def value(text, sample):
    found = re.search(rf"^{re.escape(sample)} (\d+)$", text, re.MULTILINE)
    return int(found.group(1)) if found else None


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise unittest.SkipTest(f"no {program} (apt: prometheus)")


class Metrics(unittest.TestCase):
    def test_listener(self):
        """GET /metrics counts a detection; other paths and methods get their answer; a silent connection holds up nothing."""
        with Lab() as lab, Btblock(lab, settings=[f'metrics.listen=127.0.0.1:{PORT}']) as btblock, Probe(lab, OTHER) as probe:
            with lab.inside(lab.gateway):
                silent = socket.create_connection(("127.0.0.1", PORT), 5)
            status, headers, text = ask(lab)
            self.assertEqual((status, headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
            self.assertEqual(value(text, 'btblock_detections_total{evidence="dht.query"}'), 0)
            self.assertEqual(ask(lab)[2], text, "made anew within a second")
            self.assertEqual(value(text, 'btblock_interface_attached{interface="lan0",hook="tc"}'), 1)
            self.assertEqual(value(text, "btblock_enforcing"), 1)
            self.assertFalse(probe.outwards(dht_query()))
            time.sleep(1.1)
            text = ask(lab)[2]
            self.assertEqual(value(text, 'btblock_detections_total{evidence="dht.query"}'), 1)
            self.assertEqual(value(text, 'btblock_table_entries{table="clients"}'), 1)
            # every number of the status is there
            shown = btblock.status()
            for code in shown["detections"]:
                self.assertIsNotNone(value(text, f'btblock_detections_total{{evidence="{code}"}}'), code)
            self.assertIsNotNone(value(text, 'btblock_announces_leaked_total{protocol="http"}'))
            self.assertNotIn("10.", re.sub(r"[\d.]+$", "", text, flags=re.MULTILINE).replace('version="0.1.0"', ""), "an address")
            self.assertEqual(ask(lab, "/")[0], 404)
            self.assertEqual(ask(lab, method="POST", body="x" * 100_000)[0], 405)
            status, headers, text = ask(lab, method="HEAD")
            self.assertEqual((status, text), (200, ""))
            silent.close()
            self.assertEqual(btblock.stop(), 0)

    def test_port_in_use(self):
        """The daemon says so, ends with an error and leaves nothing."""
        with Lab() as lab:
            with lab.inside(lab.gateway):
                taken = socket.create_server(("127.0.0.1", PORT))
            btblock = Btblock(lab, settings=[f'metrics.listen=127.0.0.1:{PORT}'])
            with taken:
                done = btblock.cli("run", *btblock.run_arguments(), check=False)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn(f"metrics.listen: 127.0.0.1:{PORT}: Address already in use", done.stderr)
            self.assertFalse(os.path.exists(f"/sys/fs/bpf/btblock/{btblock.instance}"))

    def test_port_in_use_after_a_run(self):
        """A start that fails takes nothing away from what an earlier run left in force."""
        with Lab() as lab, Probe(lab, OTHER) as probe:
            with lab.inside(lab.gateway):
                taken = socket.create_server(("127.0.0.1", PORT))
            with taken, Btblock(lab, settings=["persist=true"]) as btblock:
                self.assertEqual(btblock.stop(), 0)
                self.assertFalse(probe.outwards(dht_query()))
                btblock.settings = ["persist=true", f"metrics.listen=127.0.0.1:{PORT}"]
                done = btblock.cli("run", *btblock.run_arguments(), check=False)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertFalse(probe.outwards(dht_query()), "unguarded after a failed start")
                self.assertTrue(os.path.exists(f"/sys/fs/bpf/btblock/{btblock.instance}"))

    def test_text_file(self):
        """Written whole, for everyone to read, and gone with the daemon."""
        with Lab() as lab:
            path = lab.file("btblock.prom")
            with Btblock(lab, settings=[f"metrics.file={path}"]) as btblock:
                self.assertTrue(wait_until(lambda: os.path.exists(path), 5))
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o644)
                with open(path, encoding="ascii") as file:
                    self.assertEqual(value(file.read(), "btblock_enforcing"), 1)
                self.assertEqual(glob.glob(path + ".*"), [], "a draft is left")
                # A directory in its place, as a disk that fills up: told in the status, and once in the log.
                os.unlink(path)
                os.mkdir(path)
                told = wait_until(lambda: [p for p in btblock.status()["problems"] if "metrics.file" in p], 20, 1)
                self.assertTrue(told, btblock.process.output())
                self.assertEqual(btblock.process.output().count("metrics.file"), 1, btblock.process.output())
                os.rmdir(path)
                self.assertTrue(wait_until(lambda: not btblock.status()["problems"], 20, 1), btblock.process.output())
                self.assertEqual(btblock.stop(), 0)
            self.assertFalse(os.path.exists(path))

    def test_prometheus(self):
        """A real Prometheus takes the exposition, the rules hold, and every metric that rules and dashboard name exists."""
        need("prometheus", "promtool")
        for arguments in (["check", "rules", RULES], ["test", "rules", RULES.replace(".yml", ".test.yml")]):
            done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with Lab() as lab, Btblock(lab, settings=[f'metrics.listen=127.0.0.1:{PORT}']) as btblock, Probe(lab, OTHER) as probe:
            self.assertFalse(probe.outwards(dht_query()))
            text = ask(lab)[2]
            done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
            there = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
            with open(RULES, encoding="utf-8") as rules, open(DASHBOARD, encoding="utf-8") as dashboard:
                panels = json.load(dashboard)["panels"]
                named = set(re.findall(r"\bbtblock_[a-z_]+", rules.read()))
                named |= {m for p in panels for t in p["targets"] for m in re.findall(r"\bbtblock_[a-z_]+", t["expr"])}
            self.assertGreater(len(named), 15)
            self.assertEqual(named - there, set())

            config = lab.file("prometheus.yml")
            with open(config, "w", encoding="utf-8") as file:
                json.dump({"global": {"scrape_interval": "1s"}, "rule_files": [RULES],
                           "scrape_configs": [{"job_name": "btblock", "static_configs": [{"targets": [f"127.0.0.1:{PORT}"]}]}]}, file)
            server = lab.start(lab.gateway, ["prometheus", f"--config.file={config}", "--storage.tsdb.path=" + lab.file("tsdb"),
                                             "--web.listen-address=127.0.0.1:9090"], "prometheus")

            def asked():
                query = urllib.parse.quote('btblock_detections_total{evidence="dht.query",job="btblock"}')
                with lab.inside(lab.gateway):
                    connection = http.client.HTTPConnection("127.0.0.1", 9090, timeout=5)
                    try:
                        connection.connect()
                    except OSError:
                        return None
                connection.request("GET", "/api/v1/query?query=" + query)
                answer = connection.getresponse()
                found = json.load(answer)["data"]["result"] if answer.status == 200 else None
                connection.close()
                return found[0]["value"][1] if found else None
            self.assertEqual(wait_until(asked, 30), "1", server.output()[-2000:])
            self.assertEqual(btblock.stop(), 0)


if __name__ == "__main__":
    unittest.main()
