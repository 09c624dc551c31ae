"""Runs the original and phobos-blink with the same arguments on the same sticks, and tells what each did.

    beside.py PLAN >RESULT

PLAN is a list of {"sticks": [KIND:SERIAL...], "cases": [[ARGUMENT...]...]}. On each set of sticks all cases are run with
the original, then all with phobos-blink; nothing is plugged out in between. Before each case the sticks forget what they
were told. RESULT has, for each set, {"original": [...], "phobos": [...]} with the exit code, both outputs and the events of
each case: [KIND, SERIAL, REPORT, LENGTH, DATA, NANOSECONDS] of each transfer, and SECONDS of each pause of the original.

The original runs in this process, whose start takes seconds under emulation. It is BlinkStick 1.2.0 from PyPI, and three
things are put right in it, as they are in its git master:

* collections.Callable, which --info needs, is gone from Python;
* a limit below 100 is applied twice to the colours of blink, pulse and morph;
* (that blink and pulse draw a random colour once, not for each repeat, is left: the test regards no random colours.)
"""

import collections
import collections.abc
import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import subprocess
import sys
import time
import traceback

FAKE = "/usr/local/lib/rig/fake-blinkstick"
PHOBOS = "/usr/local/bin/phobos-blink"
ORIGINAL = "/opt/blinkstick"
LOG = "/run/beside.jsonl"
# A vendor's request, at which the fake stick forgets what it was told.
FORGET = 0x40

sys.path.insert(0, ORIGINAL)
collections.Callable = collections.abc.Callable

import usb.backend.libusb1  # noqa: E402
import usb.core  # noqa: E402
from blinkstick import blinkstick as library  # noqa: E402

loader = importlib.machinery.SourceFileLoader("original", ORIGINAL + "/bin/blinkstick")
original = importlib.util.module_from_spec(importlib.util.spec_from_loader("original", loader))
loader.exec_module(original)

determine_twice = library.BlinkStick._determine_rgb


def determine_once(stick, **color):
    """The colour that the library works with; limited in set_color alone, as in git master."""
    limit, caller = stick.max_rgb_value, sys._getframe(1).f_code.co_name
    if limit == 255 or caller == "set_color":
        return determine_twice(stick, **color)
    if caller == "morph":
        return library._remap_rgb_value_reverse(determine_twice(stick, **color), limit)
    stick.max_rgb_value = 255
    try:
        return determine_twice(stick, **color)
    finally:
        stick.max_rgb_value = limit


library.BlinkStick._determine_rgb = determine_once


class Log:
    """What the sticks have written down, from where it was last read."""

    def __init__(self):
        self.file = open(LOG, "rb")

    def read(self):
        events = []
        for line in self.file:
            note = json.loads(line)
            setup = bytes.fromhex(note["setup"])
            kind = "in" if setup[0] & 0x80 else "out"
            length = int.from_bytes(setup[6:8], "little")
            events.append([kind, note["serial"], note["report"], length, note["data"], note["monotonic_ns"]])
        return events


def sleeper(log, events):
    """Stands for time.sleep: notes the seconds, and minds what Python would mind."""

    def sleep(seconds):
        events.extend(log.read())
        if seconds != seconds or seconds < 0:
            raise ValueError("sleep length must be non-negative")
        if seconds >= 2**63 / 1e9:
            raise OverflowError("timestamp too large to convert to C PyTime_t")
        events.append(seconds)

    return sleep


def run_original(log, args):
    events, out, err = [], io.StringIO(), io.StringIO()
    sys.argv = ["blinkstick", *args]
    library.time = type("time", (), {"sleep": staticmethod(sleeper(log, events))})
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = original.main()
        except SystemExit as end:
            code = end.code or 0
        except Exception:
            code = 1
            traceback.print_exc()
    events.extend(log.read())
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "events": events}


def run_phobos(log, args):
    # Files and posix_spawn: pipes and subprocess would take longer than phobos-blink itself.
    written = [os.open(f"/run/beside.{name}", os.O_CREAT | os.O_TRUNC | os.O_RDWR) for name in ("out", "err")]
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(written, 1)]
    child = os.posix_spawn(PHOBOS, ["blinkstick", *args], os.environ, file_actions=actions)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = []
    for fd in written:
        os.lseek(fd, 0, os.SEEK_SET)
        with open(fd, encoding="utf-8", newline="") as file:
            said.append(file.read())
    return {"code": code, "out": said[0], "err": said[1], "events": log.read()}


def sticks():
    return list(usb.core.find(find_all=True, idVendor=library.VENDOR_ID, idProduct=library.PRODUCT_ID))


def wait_for(what, condition):
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.05)


def run_all(run, log, plugged, cases):
    results = []
    for args in cases:
        for stick in plugged:
            stick.ctrl_transfer(FORGET, 0, 0, 0, None)
        log.read()
        results.append(run(log, args))
    return results


def beside(names, cases):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(LOG)
    fake = subprocess.Popen([FAKE, "--traffic", LOG, *names], close_fds=False)
    try:
        nodes = "/sys/class/hidraw"
        wait_for("the sticks", lambda: os.path.isdir(nodes) and len(os.listdir(nodes)) == len(names))
        subprocess.run(["udevadm", "settle"], check=True)
        began = time.monotonic()
        log, plugged = Log(), sticks()
        first = run_all(run_original, log, plugged, cases)
        between = time.monotonic()
        left = os.listdir(nodes)
        second = run_all(run_phobos, log, plugged, cases)
        took = f"{between - began:.1f} s and {time.monotonic() - between:.1f} s"
        print(" ".join(names), took, file=sys.stderr)
        return {"left_by_original": left, "original": first, "phobos": second}
    finally:
        fake.terminate()
        fake.wait()
        wait_for("the sticks to be gone", lambda: not os.path.isdir(nodes) or not os.listdir(nodes))


def beside_in_a_child(names, cases):
    """Runs all this in a process of its own: libusb is to see the sticks as a program does that has just started."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with open(writer, "w", encoding="utf-8") as pipe:
            json.dump(beside(names, cases), pipe)
            pipe.flush()
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        result = pipe.read()
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(f"no result for {names}")
    return json.loads(result)


with open(sys.argv[1], encoding="utf-8") as file:
    plan = json.load(file)
json.dump([beside_in_a_child(part["sticks"], part["cases"]) for part in plan], sys.stdout)
