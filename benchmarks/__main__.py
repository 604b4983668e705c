"""python -m benchmarks [names] [--quick]: run the benchmarks, one process each, and print their tables."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from benchmarks.product import ROOT

#: Name -> what makes it quick.
BENCHMARKS = {
    "decode": ("--lines", "10000", "--repeat", "2"),
    "stages": ("--lines", "18000"),
    "detect": ("--events", "3000", "--spoofed", "20000"),
    "pipeline": ("--quick",),
    "floods": ("--quick",),
    "latency": ("--quick",),
    "pages": ("--quick",),
    "explore": ("--quick",),
    "live": ("--quick",),
    "sockets": ("--quick",),
    "idle": ("--quick",),
    "doors": ("--quick",),
    "announce": ("--incidents", "40", "--kills", "3"),
    "alerts": ("--lines", "12000", "--kills", "4"),
    "power": ("--cuts", "3"),
    "upgrade": ("--events", "20000", "--kills", "4"),
    "trouble": ("--scale", "0.1"),
    "leaving": ("--events", "20000", "--back", "3000"),
}


def main() -> int:
    options = argparse.ArgumentParser(prog="script/bench", description="Measure, and print one table per benchmark.")
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all if none is named")
    options.add_argument("--quick", action="store_true", help="smaller amounts; figures for orientation only")
    arguments = options.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        options.error(f"there is no benchmark named {', '.join(sorted(unknown))}")
    failed = []
    for name in arguments.names or BENCHMARKS:
        quick = BENCHMARKS[name] if arguments.quick else ()
        print(f"==== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *quick]
        if subprocess.run(command, cwd=ROOT, env=os.environ, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
