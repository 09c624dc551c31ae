"""Measures blinkstick and phobos-blink on one emulated stick, in the rig's machine.

Prints `original KIB SECONDS...` and `phobos KIB SECONDS...`: the peak of a program's memory, and the times of runs that set
a colour; `breathing SHARE`: how much of a processor a breathing light takes; and `count SECONDS`: how long this processor
takes to count to a million, by which its emulation can be told apart.
"""

import os
import shutil
import subprocess
import tempfile
import time

ORIGINAL = ["python3", "/opt/blinkstick/bin/blinkstick", "--index", "1", "--limit", "10"]
PHOBOS = ["/usr/local/bin/phobos-blink", "--index", "1", "--limit", "10"]
BREATHING = 20

os.environ["PYTHONPATH"] = "/opt/blinkstick"


def settled():
    """Waits until the stick has its driver, which the original takes away and phobos's udev rule gives back."""
    subprocess.run(["udevadm", "settle"], check=True)
    while not os.path.isdir("/sys/class/hidraw") or not os.listdir("/sys/class/hidraw"):
        time.sleep(0.05)


def wall(call):
    settled()
    program = shutil.which(call[0])
    began = time.monotonic()
    # subprocess.run would take longer than phobos-blink itself.
    child = os.posix_spawn(program, call, os.environ)
    status = os.waitpid(child, 0)[1]
    took = time.monotonic() - began
    assert status == 0
    return took


def status(pid, name):
    with open(f"/proc/{pid}/status") as file:
        return next(line.split()[1] for line in file if line.startswith(name + ":"))


def memory(call):
    """The peak of its memory: strace holds the program up for a moment where it ends."""
    settled()
    with tempfile.NamedTemporaryFile() as log:
        hold = "--inject=exit_group:delay_enter=1500000"
        tracer = subprocess.Popen(["strace", "--trace=exit_group", hold, "--output", log.name, *call])
        peak, name = 0, os.path.basename(call[0])
        while tracer.poll() is None:
            for pid in open(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read().split():
                try:
                    if status(pid, "Name") == name[:15]:
                        peak = max(peak, int(status(pid, "VmHWM")))
                except (OSError, StopIteration):
                    pass
            time.sleep(0.1)
        assert tracer.returncode == 0 and peak > 0
        return peak


def count():
    began = time.process_time()
    for _ in range(1_000_000):
        pass
    return time.process_time() - began


def breathing():
    settled()
    with open("/etc/phobos/phobos.toml", "a") as file:
        file.write("[led]\nbreathe = true\n")
    subprocess.run([PHOBOS[0], "job", "bench", "working", "--pid", str(os.getpid())], check=True)
    process = subprocess.Popen([PHOBOS[0], "show", "--breathe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"breathing\n"

    def ticks():
        with open(f"/proc/{process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    began, before = time.monotonic(), ticks()
    time.sleep(BREATHING)
    share = (ticks() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)
    process.stdin.close()
    assert process.wait() == 0
    return share


subprocess.run(["systemctl", "stop", "fake-blinkstick"], check=True)
fake = subprocess.Popen(["/usr/local/lib/rig/fake-blinkstick", "--traffic", "/run/bench.jsonl", "pro:BS000001-2.0"])
try:
    peaks, times = {}, {}
    programs = [("original", ORIGINAL), ("phobos", PHOBOS)]
    for name, call in programs:
        # This run also reads the program from the disk, for those whose time is taken.
        peaks[name], times[name] = memory([*call, "white"]), []
    # One after the other, not in turns: the first run of phobos-blink after blinkstick finds the driver just bound again.
    for name, call in programs:
        for color in ["red", "green", "blue", "yellow", "red"]:
            times[name].append(wall([*call, color]))
    with open("/run/bench.jsonl") as file:
        assert sum(1 for _ in file) == 12
    for name in peaks:
        print(name, peaks[name], *times[name])
    print("breathing", breathing())
    print("count", count())
finally:
    fake.terminate()
    fake.wait()
