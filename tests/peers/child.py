# SPDX-License-Identifier: Apache-2.0
"""A timed process: seconds, peak memory, and when a sign of life appeared in a file."""
import contextlib
import os
import subprocess
import time
from dataclasses import dataclass

POLL_S, LATER_POLL_S = 0.005, 0.05


class Refused(Exception):
    """The program says that it cannot do this: exit code 2."""


@dataclass
class Outcome:
    seconds: float  # from the command to the end
    first: float    # to the moment at which the word was seen; 0: never
    peak: int       # bytes, the process's largest resident size
    family: int     # bytes, largest proportional size of it and its children; 0: not asked for
    out: str
    err: str


def status(pid: int | str, key: str) -> int:
    """A size in /proc/PID/status, in bytes; 0 where it is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return 0


def family_bytes(pid: int) -> int:
    """Proportional set sizes of a process and of all below it: shared pages count once."""
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        with contextlib.suppress(OSError), open(f"/proc/{one}/smaps_rollup") as f:
            total += sum(int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:"))
        with contextlib.suppress(OSError), open(f"/proc/{one}/task/{one}/children") as f:
            todo += map(int, f.read().split())
    return total


class Watch:
    """The peak is read from /proc while the process runs: getrusage's would be this process's
    own, carried over by the fork."""

    def __init__(self, process: subprocess.Popen, sign: str, word: str, family: bool):
        self.process, self.sign, self.word, self.family = process, sign, word, family
        self.started, self.first, self.peak, self.all = time.monotonic(), 0.0, 0, 0

    def look(self) -> None:
        self.peak = max(self.peak, status(self.process.pid, "VmHWM"))
        if self.family:
            self.all = max(self.all, family_bytes(self.process.pid))
        if not self.first and os.path.exists(self.sign):
            with open(self.sign) as f:
                if self.word in f.read():
                    self.first = time.monotonic() - self.started

    def wait(self) -> float:
        while self.process.poll() is None:
            self.look()
            time.sleep(LATER_POLL_S if self.first else POLL_S)
        return time.monotonic() - self.started


def run(argv: list[str], folder: str, env: dict[str, str], sign: str | None = None,
        word: str = "\n", family: bool = False) -> Outcome:
    """Runs to the end, output in files of `folder`; `sign`: standard output, or that file."""
    names = [os.path.join(folder, name) for name in ("stdout", "stderr")]
    with open(names[0], "w") as out, open(names[1], "w") as err:
        process = subprocess.Popen(argv, stdout=out, stderr=err, env=env)
        watch = Watch(process, sign or names[0], word, family)
        try:
            seconds = watch.wait()
        finally:
            process.kill()
            process.wait()
    texts = [open(name).read() for name in names]
    if process.returncode == 2:
        raise Refused(texts[1].strip().splitlines()[-1] if texts[1].strip() else "exit code 2")
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)}\nexit {process.returncode}: {texts[1][-2000:]}")
    return Outcome(seconds, watch.first, watch.peak, watch.all, *texts)
