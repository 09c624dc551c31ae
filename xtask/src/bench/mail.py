"""Lets a unit fail, then mails about it by the original's script and by phobos in turns. Argument: how many rounds.

Each round gives a line of microseconds: of the script until it has ended, when exim's part has only begun; of the script and
of phobos until an SMTP server has said "250 OK". The server does nothing else; the script reaches it through exim. Both run as
root, because under the owner's unit the original's mail is lost.
"""

import os
import pathlib
import socket
import subprocess
import sys
import time

UNIT = "bench.service"
SCRIPT = pathlib.Path("/usr/local/bin/systemd-email")
CONFIG = pathlib.Path("/root/bench.toml")
STATE = pathlib.Path("/var/lib/bench-mail")


def hand_on():
    """Makes exim hand root's mail on to the server at 2525, as on a machine whose mail is kept elsewhere."""
    conf = pathlib.Path("/etc/exim4/update-exim4.conf.conf")
    lines = [line for line in conf.read_text().splitlines() if not line.startswith(("dc_eximconfig_configtype=", "dc_smarthost="))]
    conf.write_text("\n".join([*lines, "dc_eximconfig_configtype='smarthost'", "dc_smarthost='127.0.0.1::2525'", ""]))
    pathlib.Path("/etc/aliases").write_text("root: owner@elsewhere.example\n")
    # Exim takes a server on its own machine for itself, whatever the port.
    template = pathlib.Path("/etc/exim4/exim4.conf.template")
    template.write_text(template.read_text().replace("\nsmarthost:\n", "\nsmarthost:\n  self = send\n"))
    subprocess.run(["update-exim4.conf"], check=True)
    subprocess.run(["systemctl", "restart", "exim4"], check=True)


def prepare():
    hand_on()
    unit = pathlib.Path("/etc/systemd/system", UNIT)
    unit.write_text('[Service]\nType=oneshot\nExecStart=/bin/sh -c "seq 20; exit 3"\n')
    SCRIPT.write_text('#!/bin/sh\nsystemctl status --full "$1" | mail -s "unit $1 failed" root\n')
    SCRIPT.chmod(0o755)
    CONFIG.write_text('[mail]\ntransport = "smtp://127.0.0.1:2525"\n')
    CONFIG.chmod(0o600)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "start", "--quiet", UNIT], stderr=subprocess.DEVNULL)


def environment():
    """What systemd tells the unit that it starts for a failed one."""
    show = ["systemctl", "show", "--property=InvocationID", "--value", UNIT]
    invocation = subprocess.run(show, check=True, capture_output=True, text=True).stdout.strip()
    monitor = {"UNIT": UNIT, "INVOCATION_ID": invocation, "SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "3"}
    return os.environ | {"STATE_DIRECTORY": str(STATE)} | {f"MONITOR_{name}": value for name, value in monitor.items()}


def take(listener):
    """Takes one mail and returns the moment of the "250 OK"."""
    connection, _ = listener.accept()
    moment = None
    with connection, connection.makefile("rwb", buffering=0) as line:
        line.write(b"220 hello\r\n")
        while command := line.readline().upper():
            if command.startswith(b"DATA"):
                line.write(b"354 go on\r\n")
                while line.readline() != b".\r\n":
                    pass
                moment = time.monotonic()
            line.write(b"221 bye\r\n" if command.startswith(b"QUIT") else b"250 OK\r\n")
    return moment


def by_script(listener):
    began = time.monotonic()
    with subprocess.Popen([SCRIPT, UNIT]) as script:
        script.wait()
        returned = time.monotonic() - began
        took = take(listener) - began
    assert script.returncode == 0
    return returned, took


def by_phobos(listener, environ):
    # The second mail within an hour would be held back.
    for record in STATE.glob("units/*.json"):
        record.unlink()
    began = time.monotonic()
    with subprocess.Popen(["phobos-mail", "--config", CONFIG, UNIT], env=environ, stderr=subprocess.DEVNULL) as phobos:
        took = take(listener) - began
    assert phobos.returncode == 0
    return took


def main():
    prepare()
    environ = environment()
    with socket.create_server(("127.0.0.1", 2525)) as listener:
        by_phobos(listener, environ)  # makes its folders
        for _ in range(int(sys.argv[1])):
            times = *by_script(listener), by_phobos(listener, environ)
            print(*(round(took * 1_000_000) for took in times), flush=True)


main()
