"""fail2ban from Debian's packages on the same file: what a user would run instead.

Everything of it is private: configuration, socket, process id, database and log lie in the benchmark's folder, bans do
nothing, and only the process started here is ended.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time

from benchmarks.product import wait_for

SENTINEL = "192.0.2.254"
INSTALLED = "/etc/fail2ban"


def installed() -> bool:
    return all(map(shutil.which, ("fail2ban-server", "fail2ban-regex"))) and os.path.isdir(INSTALLED)


def regex_seconds(path: str) -> float:
    """How long fail2ban-regex takes over a file: its filter alone, nothing kept."""
    begun = time.perf_counter()
    command = ["fail2ban-regex", path, f"{INSTALLED}/filter.d/sshd.conf"]
    subprocess.run(command, env=os.environ | {"TZ": "UTC"}, capture_output=True, check=True, timeout=600)
    return time.perf_counter() - begun


def jail_seconds(path: str, folder: str) -> float:
    """How long a jail takes from its start until it has seen the sentinel at the end of the file."""
    log = os.path.join(folder, "fail2ban.log")
    _configure(folder, path, log)
    private = ["-c", folder, "-s", os.path.join(folder, "f.sock"), "-p", os.path.join(folder, "f.pid")]
    with open(os.path.join(folder, "output"), "wb") as output:
        process = subprocess.Popen(
            ["fail2ban-server", *private, "-f", "-x", "start"],
            env=os.environ | {"TZ": "UTC"},
            stdout=output,
            stderr=output,
        )
    try:
        wait_for("the jail's start", lambda: _says(log, "Jail 'sshd' started"), every_s=0.005)
        return wait_for("the sentinel", lambda: _says(log, f"Found {SENTINEL}"), timeout_s=600, every_s=0.05)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def sentinel(now_line: str) -> str:
    """A failure from an address of its own, at the time of this line of sshd."""
    return f"{now_line[:15]} web1 sshd[999]: Failed password for root from {SENTINEL} port 40000 ssh2\n"


def _configure(folder: str, path: str, log: str) -> None:
    for part in ("filter.d", "action.d"):
        os.symlink(f"{INSTALLED}/{part}", os.path.join(folder, part))
    files = {
        "fail2ban.conf": f"[DEFAULT]\nloglevel = INFO\nlogtarget = {log}\nsyslogsocket = auto\n"
        f"socket = {folder}/f.sock\npidfile = {folder}/f.pid\ndbfile = {folder}/f.sqlite3\ndbpurgeage = 1d\n"
        "dbmaxmatches = 10\nallowipv6 = auto\n[Definition]\n[Thread]\nstacksize = 0\n",
        "jail.conf": f"[DEFAULT]\nbackend = polling\nfindtime = 1d\nbantime = 10m\nmaxretry = 5\naction =\n"
        f"[sshd]\nenabled = true\nfilter = sshd\nlogpath = {path}\n",
    }
    for name, text in files.items():
        with open(os.path.join(folder, name), "w", encoding="ascii") as file:
            file.write(text)


def _says(log: str, text: str) -> bool:
    """Whether it stands near the end of the log."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.path.getsize(log) - 200_000))
            return text.encode() in file.read()
    except FileNotFoundError:
        return False
