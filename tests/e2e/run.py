#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs end-to-end tests, each in a place of its own (isolate.py).

  run.py --list             the names, one a line
  run.py NAME [NAME...]     run these; bans runs all that are called bans.something

Needs root. BTBLOCK_BIN names the program under test.
Exit code: 0 all passed, 1 a test failed, 77 all were skipped (the reason is printed).
"""
import importlib
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SKIPPED = 77
sys.path.insert(0, HERE)


def all_tests():
    tests = {}
    for file in sorted(os.listdir(HERE)):
        if not (file.startswith("test_") and file.endswith(".py")):
            continue
        module = importlib.import_module(file[:-3])
        for suite in unittest.defaultTestLoader.loadTestsFromModule(module):
            for test in suite:
                tests[f"{file[5:-3]}.{test.id().split('.')[-1].removeprefix('test_')}"] = test
    return tests


class Result(unittest.TextTestResult):
    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print(f"SKIPPED: {reason}", flush=True)


def run(names):
    tests = all_tests()
    chosen = [t for name, t in tests.items() if name in names or any(n == name.partition(".")[0] for n in names)]
    if not chosen:
        sys.exit(f"no such test: {' '.join(names)} (see --list)")
    result = unittest.TextTestRunner(sys.stdout, verbosity=2, resultclass=Result).run(unittest.TestSuite(chosen))
    if not result.wasSuccessful():
        return 1
    return SKIPPED if len(result.skipped) == result.testsRun else 0


def main():
    names = sys.argv[1:]
    if not names or names[0] in ("-h", "--help"):
        print(__doc__)
        return 2 if not names else 0
    if names == ["--list"]:
        print("\n".join(all_tests()))
        return 0
    if os.geteuid() != 0:
        print("SKIPPED: needs root (network namespaces)")
        return SKIPPED
    binary = os.environ.get("BTBLOCK_BIN", "")
    if not os.access(binary, os.X_OK):
        sys.exit(f"BTBLOCK_BIN={binary}: not a program")
    os.environ["BTBLOCK_E2E_ID"] = str(os.getpid())  # unique on the machine; inside, PIDs begin at 1
    from isolate import isolated
    try:
        return isolated(lambda: run(names))
    except OSError as refused:
        print(f"SKIPPED: no private namespaces here: {refused}")
        return SKIPPED


if __name__ == "__main__":
    sys.exit(main())
