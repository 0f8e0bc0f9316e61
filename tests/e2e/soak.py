#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Mixed real traffic through a gateway whose btblock is restarted, killed, stopped, reloaded and flooded again and again.

  soak.py [MINUTES]      default 30; BTBLOCK_BIN names the program

Prints a line for each fault and a report. Exit code 0: no packet of the banned address passed, no BitTorrent byte
arrived, everybody else was served, and neither memory nor descriptors, maps, programs, rules or pins leaked.
"""
import contextlib
import json
import os
import random
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from btblock import Btblock  # noqa: E402
from isolate import isolated  # noqa: E402
from network import Lab, OTHER, ROUTER, TRACKER, WEB, host, wait_until  # noqa: E402
from probe import blocks_dht, dht_query  # noqa: E402
from stream import Requests, Stream  # noqa: E402
from swarm import Swarm, missing_libtorrent, script  # noqa: E402
from test_overload import ODD, Overload  # noqa: E402

PAUSE = 5  # seconds of undisturbed traffic after each fault


class Soak:
    def __init__(self, lab, btblock, config):
        self.lab, self.btblock, self.config = lab, btblock, config
        self.objects, self.samples, self.counts, self.problems = set(), [], {}, []

    # ---- faults

    def restart(self):
        code = self.btblock.stop()
        if code != 0:
            self.problems.append(f"exit code {code} after SIGTERM")
        self.btblock.start()

    def crash(self):
        self.btblock.stop(signal.SIGKILL)
        time.sleep(random.random() * 2)
        self.btblock.start()

    def upgrade(self):
        self.btblock.stop(signal.SIGKILL)
        root = f"/sys/fs/bpf/btblock/{self.btblock.instance}"
        current, = os.listdir(root)
        os.rename(f"{root}/{current}", f"{root}/v0")
        self.btblock.start()

    def freeze(self):
        self.btblock.process.send(signal.SIGSTOP)
        time.sleep(4)
        self.btblock.process.send(signal.SIGCONT)

    def reload(self):
        with open(self.config, "w") as f:
            f.write(f'interfaces = ["lan0", "wan0"]\npersist = true\nban.after = {random.randint(1, 3)}\n'
                    f'allow = ["192.0.2.{random.randint(1, 250)}"]\n')
        self.btblock.process.send(signal.SIGHUP)

    def bad_reload(self):
        with open(self.config) as f:
            good = f.read()
        with open(self.config, "a") as f:
            f.write("nonsense = [\n")
        self.btblock.process.send(signal.SIGHUP)
        time.sleep(1)
        with open(self.config, "w") as f:
            f.write(good)

    def flap(self):
        for device in ("lan0", "wan0"):
            self.lab.ip(self.lab.gateway, f"link set {device} down")
            time.sleep(0.1)
            self.lab.ip(self.lab.gateway, f"link set {device} up")
        self.lab.ip(self.lab.gateway, f"route replace default via {host(ROUTER)}")

    def flood_queries(self):
        Overload.flood(self.lab, 3000, dht_query)

    def flood_flows(self):
        Overload.flood(self.lab, 30000, os.urandom(40), WEB)

    def flood_queue(self):
        Overload.flood(self.lab, 5000, ODD, TRACKER)

    def many_bans(self):
        path = self.lab.file("bans")
        with open(path, "w") as f:
            f.writelines(f"198.18.{a}.{b}\n" for a in range(100) for b in range(100))
        self.btblock.cli("bans import", path)
        listed = self.btblock.cli("bans list", "-o", "csv").stdout
        if listed.count("\n") < 10000:
            self.problems.append("an import is not complete")
        path = self.lab.file("export")
        self.btblock.cli("bans flush")
        self.btblock.ban(host(OTHER), "--comment", "soak")

    def ask(self):
        for command in (["status"], ["bans list"], ["allow list"], ["clients"], ["flows"], ["explain", host(OTHER)], ["doctor"]):
            done = self.btblock.cli(command[0], *command[1:], check=False)
            if done.returncode not in (0, 4):
                self.problems.append(f"{command}: exit code {done.returncode}: {done.stderr}")

    # ---- what it takes

    def sample(self):
        pid, = self.btblock.processes()
        with open(f"/proc/{pid}/status") as f:
            rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
        status = self.btblock.status()
        ours, fds = set(), os.listdir(f"/proc/{pid}/fd")
        for fd in fds:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{fd}") as f:
                ours |= {("map", int(line.split()[1])) for line in f if line.startswith("map_id:")}
        programs = {("prog", number) for _, _, number in self.lab.programs()}
        self.objects |= ours | programs
        entry = {"rss": rss, "fds": len(fds), "threads": len(os.listdir(f"/proc/{pid}/task")),
                 "maps": len(ours), "programs": len(self.lab.programs()), "pins": len(self.btblock.pins()),
                 "rules": len(self.lab.rules()), "kernel_maps": status["memory"]["maps"]}
        self.samples.append(entry)
        return entry

    def alive(self, objects):
        return {(kind, number) for kind, number in objects
                if self.lab.run(self.lab.gateway, ["bpftool", kind, "show", "id", str(number)], check=False).returncode == 0}


def growth(samples, key):
    """The medians of the first and of the last third."""
    third = max(1, len(samples) // 3)
    middle = [sorted(s[key] for s in part)[third // 2] for part in (samples[:third], samples[-third:])]
    return tuple(middle)


def soak(minutes):
    seed = random.randrange(1 << 30)
    random.seed(seed)
    with Lab() as lab:
        rules = lab.rules()
        config = lab.file("btblock.toml")
        with open(config, "w") as f:
            f.write('interfaces = ["lan0", "wan0"]\npersist = true\n')
        btblock = Btblock(lab)
        btblock.run_arguments = lambda: ["-c", config]
        server = lab.start(lab.internet, ["/usr/bin/python3", script("services.py"), "http", host(WEB), "8080", lab.dir], "web")
        server.wait_for("ready", 10)
        with btblock:
            run = Soak(lab, btblock, config)
            swarm = None if missing_libtorrent() else Swarm(lab, transport="both", find="direct,http,udp")
            leechers = [swarm.leech()] if swarm else []
            btblock.ban(host(OTHER), "--comment", "soak")
            with Stream(lab, OTHER, 2000) as banned, Stream(lab, TRACKER, 1000) as free, Requests(lab, host(WEB), clients=4) as web:
                time.sleep(PAUSE)
                arrived = banned.arrived
                faults = [run.restart, run.crash, run.upgrade, run.freeze, run.reload, run.bad_reload, run.flap, run.flood_queries,
                          run.flood_flows, run.flood_queue, run.many_bans, run.ask]
                began, todo = time.monotonic(), []
                while time.monotonic() - began < minutes * 60:
                    if not todo:
                        todo = random.sample(faults, len(faults))
                    fault = todo.pop()
                    # A flush empties the list for a moment: only then may the stream be heard.
                    before = banned.arrived
                    fault()
                    if fault == run.many_bans:
                        arrived += banned.arrived - before
                    run.counts[fault.__name__] = run.counts.get(fault.__name__, 0) + 1
                    time.sleep(PAUSE)
                    served, answers = free.arriving(1), web.answers
                    entry = run.sample()
                    print(f"{time.monotonic() - began:6.0f} s {fault.__name__:14} banned passed {banned.arrived - arrived}, "
                          f"free {served}/s, answers {web.answers}, {entry}", flush=True)
                    if served < 500:
                        run.problems.append(f"after {fault.__name__} only {served} datagrams a second arrive")
                    if not wait_until(lambda: web.answers > answers, 5):
                        run.problems.append(f"after {fault.__name__} no request is answered")
                    if not blocks_dht(lab):
                        run.problems.append(f"after {fault.__name__} a DHT query passes")
                    if banned.arrived > arrived:
                        run.problems.append(f"after {fault.__name__} {banned.arrived - arrived} banned packets had passed")
                        arrived = banned.arrived
                took = time.monotonic() - began
                packets = banned.sent + free.sent
            payload = [leecher.payload() for leecher in leechers]
            announces = swarm.announces() if swarm else None
            status = btblock.status()
            btblock.stop()
            btblock.cli("detach")
            left = btblock.clean_after(rules, 10)
            alive = run.alive(run.objects)
    if any(payload):
        run.problems.append(f"the torrent client got {payload} bytes")
    if announces:
        run.problems.append(f"{announces} announces reached the tracker")
    run.problems += [f"left behind: {thing}" for thing in left] + [f"still in the kernel: {thing}" for thing in sorted(alive)]
    for key, room in (("rss", 1.3), ("fds", 1), ("threads", 1), ("maps", 1), ("programs", 1), ("pins", 1), ("rules", 1)):
        first, last = growth(run.samples, key)
        if last > first * room + (8192 if key == "rss" else 0):  # KiB: the kept events fill up at first
            run.problems.append(f"{key} grows: {first} at first, {last} at the end")
    print(json.dumps({
        "minutes": round(took / 60, 1), "seed": seed, "datagrams_sent": packets, "web_answers": web.answers,
        "web_failed": web.failed, "web_slowest_s": round(web.slowest, 1), "faults": run.counts,
        "torrent_payload": payload, "announces": announces, "seen": status["packets"]["seen"],
        "dropped": status["packets"]["dropped"], "rss_kib": growth(run.samples, "rss"), "fds": growth(run.samples, "fds"),
        "maps": growth(run.samples, "maps"), "pins": growth(run.samples, "pins"), "rules": growth(run.samples, "rules"),
        "left_behind": len(left) + len(alive), "problems": run.problems}, indent=2))
    return 1 if run.problems else 0


if __name__ == "__main__":
    if sys.argv[1:] in (["-h"], ["--help"]):
        sys.exit(print(__doc__))
    try:
        length = float(sys.argv[1]) if len(sys.argv) > 1 else 30
    except ValueError:
        sys.exit(f"soak.py: '{sys.argv[1]}' is not a number of minutes")
    os.environ["BTBLOCK_E2E_ID"] = str(os.getpid())
    sys.exit(isolated(lambda: soak(length)))
