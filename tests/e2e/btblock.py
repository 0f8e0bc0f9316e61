# SPDX-License-Identifier: MIT
"""The program under test, in the lab's gateway. BTBLOCK_BIN names the binary."""
import itertools
import json
import os
import shutil
import signal
import time

from network import wait_until

BINARY = os.environ.get("BTBLOCK_BIN", "btblock")
READY_TIMEOUT = 60  # on a busy machine
_numbers = itertools.count(1)


class Btblock:
    """One instance: `with Btblock(lab): ...` starts the daemon and waits until it enforces, and ends it afterwards."""

    def __init__(self, lab, interfaces="lan0,wan0", monitor=False, settings=(), instance=None):
        self.lab, self.interfaces, self.monitor, self.settings = lab, interfaces, monitor, settings
        self.instance = instance or f"e2e-{os.environ.get('BTBLOCK_E2E_ID', os.getpid())}-{next(_numbers)}"
        self.process = None

    # ---- the daemon

    def run_arguments(self):
        arguments = ["-i", self.interfaces] + (["--monitor-only"] if self.monitor else [])
        for setting in self.settings:
            arguments += ["--set", setting]
        return arguments

    def argv(self, command, *arguments):
        return [BINARY, *command.split(), "--instance", self.instance, *arguments]

    def start(self):
        self.process = self.lab.start(self.lab.gateway, self.argv("run", *self.run_arguments()), "btblock")
        if not self.process.wait_for("ready", READY_TIMEOUT):
            code = self.process.popen.poll()
            raise RuntimeError(f"btblock is not ready (exit code {code}): {self.process.output()[-3000:]}")
        return self

    def stop(self, number=signal.SIGTERM):
        return self.process.stop(number, timeout=10)

    def __enter__(self):
        return self.start()

    def __exit__(self, failure, *_):
        if failure and self.process:
            print(f"---- output of btblock ({self.instance}):\n{self.process.output()[-4000:]}")
        if self.process and self.process.running():
            self.stop()
        self.cli("detach", check=False)
        self.forget_state()

    def forget_state(self):
        """Removes what an instance may keep on disk: outside of /run it would outlive the test."""
        shutil.rmtree(f"/var/lib/btblock/{self.instance}", ignore_errors=True)
        try:
            os.rmdir("/var/lib/btblock")
        except OSError:
            pass

    # ---- the other commands

    def cli(self, command, *arguments, check=True, timeout=20):
        return self.lab.run(self.lab.gateway, self.argv(command, *arguments), check, timeout)

    def json(self, command, *arguments):
        return json.loads(self.cli(command, *arguments, "-o", "json").stdout)

    def status(self):
        # Exit code 4 (degraded) still prints the status.
        done = self.cli("status", "-o", "json", check=False)
        if done.returncode not in (0, 4):
            raise RuntimeError(f"btblock status: exit code {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def detections(self, status=None):
        """Evidence codes with a count above zero."""
        return {code: n for code, n in (status or self.status())["detections"].items() if n}

    def wait_detection(self, timeout=10):
        return wait_until(self.detections, timeout, 0.2)

    def ban(self, address, *arguments):
        self.cli("bans add", address, *arguments)

    def bans(self):
        """Addresses in the ban list, as text."""
        return self.cli("bans list", "-o", "csv").stdout

    def pins(self):
        return sorted(os.path.join(base, name) for base, _, names in os.walk(f"/sys/fs/bpf/btblock/{self.instance}")
                      for name in names)

    def attached(self):
        """Devices of the gateway that have a program on them, and where: (device, hook)."""
        return [(device, hook) for device, hook, _ in self.lab.programs()]

    def processes(self):
        """Running processes of this instance: /proc is private to the test."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().decode(errors="replace").split("\0")
            except OSError:
                continue
            if os.path.basename(words[0]) == os.path.basename(BINARY) and self.instance in words:
                found.append(int(pid))
        return found

    def leftovers(self, rules_before):
        """What is still there of this instance, as texts; rules_before: Lab.rules() before it started."""
        found = [f"pin {pin}" for pin in self.pins()]
        found += [f"program {entry}" for entry in self.attached()]
        found += [f"process {pid}" for pid in self.processes()]
        rules = self.lab.rules()
        if rules != rules_before:
            found += [f"rule {rule}" for rule in rules if rule not in rules_before]
            found += [f"lost rule {rule}" for rule in rules_before if rule not in rules]
        if os.path.exists(f"/run/btblock/{self.instance}"):
            found += [f"file {name}" for name in os.listdir(f"/run/btblock/{self.instance}") if name != "lock"]
        return found

    def clean_after(self, rules_before, timeout=3):
        """leftovers() once they are gone or time is up: the kernel frees programs a moment after the last user."""
        end = time.monotonic() + timeout
        while (left := self.leftovers(rules_before)) and time.monotonic() < end:
            time.sleep(0.1)
        return left
