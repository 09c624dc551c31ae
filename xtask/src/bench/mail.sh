#!/bin/bash
# Lets a unit fail, then mails about it by the original's script and by phobos in turns, each once the mail before has been
# delivered. Each round gives a line: microseconds of the one, of the other. Argument: how many rounds.
#
# Both run as root, because under the owner's unit the original's mail is lost.
set -eu
printf '[Service]\nType=oneshot\nExecStart=/bin/sh -c "seq 200; exit 3"\n' > /etc/systemd/system/bench.service
printf '#!/bin/sh\nsystemctl status --full "$1" | mail -s "unit $1 failed" root\n' > /usr/local/bin/systemd-email
chmod 755 /usr/local/bin/systemd-email
systemctl daemon-reload
systemctl start bench.service 2>/dev/null || true

timed() {
    start=$EPOCHREALTIME
    "$@" >&2
    end=$EPOCHREALTIME
    took=$((${end/./} - ${start/./}))
    sent=$((sent + 1))
    until [ "$(grep -c '^From ' /var/mail/owner 2>/dev/null)" = $sent ]; do sleep 0.1; done
}

sent=0
for _ in $(seq "$1"); do
    timed systemd-email bench.service
    script=$took
    # An empty spool: the second mail within an hour would be held back.
    STATE_DIRECTORY=$(mktemp -d) timed phobos-mail bench.service
    echo "$script $took"
done
