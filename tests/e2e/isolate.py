# SPDX-License-Identifier: MIT
"""A place where a test cannot leave anything behind.

isolated(main) runs main() as the first process of a new PID and mount namespace, with its own
/run (tmpfs), /proc and /sys/fs/bpf (a fresh bpffs). When that process ends, however it ends, the
kernel kills whatever it started and drops the mounts, and with them every network namespace and
every pinned BPF object made inside. Network namespaces are entered one command at a time with
`nsenter --net`, so all commands share the one bpffs; `ip netns exec` would mount a new one each time.
"""
import ctypes
import os
import signal
import subprocess
import sys
import time

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
GRACE = 20  # seconds that main() has for its own clean-up after a signal

libc = ctypes.CDLL("libc.so.6", use_errno=True)


def _check(rc, what):
    if rc != 0:
        err = ctypes.get_errno()
        raise OSError(err, f"{what}: {os.strerror(err)}")


def _prepare_mounts():
    def mount(*args):
        subprocess.run(["mount", *args], check=True)

    mount("--make-rprivate", "/")
    mount("-t", "proc", "proc", "/proc")
    mount("-t", "tmpfs", "-o", "mode=755", "run", "/run")
    os.makedirs("/run/netns")
    os.makedirs("/run/lock")
    os.makedirs("/run/sshd")
    mount("-t", "bpf", "bpf", "/sys/fs/bpf")


def isolated(main):
    """Returns main()'s exit code. Needs root; raises OSError when the kernel refuses."""
    sys.stdout.flush()
    sys.stderr.flush()
    _check(libc.unshare(CLONE_NEWNS | CLONE_NEWPID), "unshare")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, lambda n, _: sys.exit(128 + n))
            _prepare_mounts()
            code = main() or 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
            if leaving.code and not isinstance(leaving.code, int):
                print(leaving.code, file=sys.stderr)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    asked = [0.0]

    def forward(number, _frame):
        asked[0] = asked[0] or time.monotonic()
        os.kill(child, signal.SIGTERM if number == signal.SIGHUP else number)

    interactive = os.isatty(0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        # A terminal sends its ^C to the child as well.
        signal.signal(number, (lambda *_: None) if number == signal.SIGINT and interactive else forward)
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        if asked[0] and time.monotonic() - asked[0] > GRACE:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
