#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Passes ctest's output on, and puts the skipped tests with their reasons before its summary.

ctest names skipped tests but keeps quiet about what they printed; its JUnit report (the argument) has it.
"""
import os
import re
import sys
import xml.etree.ElementTree as xml

SUMMARY = re.compile(r"^\d+% tests passed")
# "SKIPPED: reason" of our own runners; GoogleTest prints the reason after "file:line: Skipped".
REASONS = (re.compile(r"^SKIPPED: (.+)", re.M), re.compile(r"^\S+:\d+: Skipped\n(.+)", re.M))


def reason(case):
    text = case.findtext("system-out") or ""
    for pattern in REASONS:
        if found := pattern.search(text):
            return found[1].strip()
    return (case.find("skipped").get("message") or "no reason printed").strip()


def main():
    held = []
    for line in sys.stdin:
        if held or SUMMARY.match(line):
            held.append(line)
        else:
            print(line, end="", flush=True)
    if os.path.exists(sys.argv[1]):
        skipped = [case for case in xml.parse(sys.argv[1]).iter("testcase") if case.find("skipped") is not None]
        if skipped:
            print(f"\n{len(skipped)} skipped:")
        for case in skipped:
            print(f"  {case.get('name')}: {reason(case)}")
        print()
    print("".join(held), end="")


if __name__ == "__main__":
    main()
