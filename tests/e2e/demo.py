#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The demo of scripts/run: one download over BitTorrent and one over the web, through a gateway without and with btblock.

Everything happens in private namespaces (isolate.py) and is gone afterwards. BTBLOCK_BIN names the program.
"""
import hashlib
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from btblock import Btblock
from isolate import isolated
from network import CLIENT4, Lab, SEEDER, WEB, host
from swarm import MiB, Swarm, script

SIZE = 32 * MiB
WATCHED = 10  # seconds the torrent client gets to find a way around
LIMIT = 90    # seconds for everything
WEB_FILE = f"http://{host(WEB)}/file.bin"


def style(code, text):
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


def section(text):
    print(f"\n{style('1', text)}", flush=True)


def line(name, text):
    print(f"   {name:<10} {text}", flush=True)


def indented(text, limit=None):
    lines = text.rstrip().splitlines()
    for shown in lines[:limit]:
        print(f"   {shown}")
    if limit and len(lines) > limit:
        print(f"   ... and {len(lines) - limit} more")
    sys.stdout.flush()


def mib(count):
    return f"{count / MiB:.1f} MiB"


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


class Demo:
    def __init__(self, lab):
        self.lab = lab
        self.file = lab.random_file("web/file.bin", SIZE)
        server = lab.start(lab.internet, [sys.executable, script("services.py"), "http", host(WEB), "80",
                                          os.path.dirname(self.file)], "web")
        self.swarm = Swarm(lab, find="http,direct", size=SIZE)
        if not server.wait_for("ready", 10):
            sys.exit(f"the web server does not start: {server.output()}")

    def web(self):
        got = self.lab.file("got.bin")
        start = time.monotonic()
        done = self.lab.run(self.lab.client, ["curl", "-sS", "--fail", "--noproxy", "*", "--max-time", "20", "-o", got, WEB_FILE],
                            check=False)
        took = time.monotonic() - start
        if done.returncode:
            line("web", style("31", f"failed: {done.stderr.strip()}"))
            return False
        same = sha256(got) == sha256(self.file)
        line("web", f"{mib(os.path.getsize(got))} in {took:.1f} s, sha256 {'is right' if same else 'is WRONG'}")
        return same

    def without(self):
        section("1. Without btblock")
        peer = self.swarm.leech()
        done = peer.wait_done(20)
        status = peer.status()
        peer.stop()
        line("torrent", f"{mib(status['payload'])} of {mib(SIZE)} in {status['seconds']:.1f} s from {host(SEEDER)}")
        line("tracker", f"{self.swarm.announces()} announces of {CLIENT4} arrived")
        web = self.web()
        return done and web

    def with_btblock(self, btblock):
        section("2. With btblock in the gateway")
        start = time.monotonic()
        btblock.start()
        announced = self.swarm.announces()
        line("gateway", f"btblock run {' '.join(btblock.run_arguments())}   (ready after {time.monotonic() - start:.1f} s)")
        peer = self.swarm.leech()
        web = self.web()
        time.sleep(WATCHED)
        status = peer.status()
        announced = self.swarm.announces() - announced
        line("torrent", f"{style('32' if not status['payload'] else '31', str(status['payload']) + ' bytes')} "
                        f"in {status['seconds']:.1f} s, connected to {status['peers']} peers")
        line("tracker", f"{announced} announces of {CLIENT4} arrived")
        web = self.web() and web
        peer.stop()
        return web and status["payload"] == 0 and announced == 0

    def report(self, btblock):
        section("3. What it saw: btblock events")
        indented(btblock.cli("events").stdout, 12)
        section("4. How it is: btblock status")
        indented(btblock.cli("status", check=False).stdout)

    def nothing_left(self, btblock, rules, programs):
        section("5. After stopping it")
        loaded = self.lab.loaded(programs)
        left = btblock.leftovers(rules)
        line("programs", f"{len(programs)} were attached, {len(loaded)} are still loaded (bpftool prog show)")
        line("pins", f"{len(btblock.pins())} below /sys/fs/bpf")
        line("rules", f"raw table: {' '.join(r for r in self.lab.rules() if '-t raw' in r) or 'empty'} (iptables -t raw -S)")
        line("processes", str(len(btblock.processes())))
        return not left and not loaded


def play():
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"the demo takes longer than {LIMIT} seconds: giving up"))
    signal.alarm(LIMIT)
    print("A private network of three namespaces; nothing of it reaches a real one.\n")
    print(f"   client {CLIENT4}  ----  gateway  ----  internet: seeder and tracker, web server {host(WEB)}")
    failed = []
    with Lab() as lab:
        demo = Demo(lab)
        btblock = Btblock(lab, instance=f"demo-{os.environ['BTBLOCK_E2E_ID']}")
        rules = lab.rules()
        try:
            if not demo.without():
                failed.append("without btblock the downloads should have worked")
            if not demo.with_btblock(btblock):
                failed.append("with btblock the web should have worked and BitTorrent should not")
            demo.report(btblock)
            programs = {number for _, _, number in lab.programs()}
            if btblock.stop() != 0:
                failed.append("btblock did not end in an orderly way")
            btblock.clean_after(rules)
            if not demo.nothing_left(btblock, rules, programs):
                failed.append("something is left behind: " + "; ".join(btblock.leftovers(rules)))
        except RuntimeError as problem:
            failed.append(str(problem))
        finally:
            if btblock.process and btblock.process.running():
                btblock.stop()
            btblock.forget_state()
        if failed and btblock.process:
            section("Output of btblock")
            indented(btblock.process.output()[-4000:])
    line("namespaces", f"{len(os.listdir('/run/netns'))} left (ip netns)")
    print()
    for problem in failed:
        print(style("31", f"demo: {problem}"), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ["BTBLOCK_E2E_ID"] = str(os.getpid())
    if os.geteuid() != 0:
        sys.exit("demo: needs root (network namespaces)")
    try:
        sys.exit(isolated(play))
    except OSError as refused:
        sys.exit(f"demo: no private namespaces here: {refused}")
