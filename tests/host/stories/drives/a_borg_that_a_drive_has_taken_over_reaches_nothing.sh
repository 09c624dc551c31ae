# Whatever a drive's repository makes of the Borg that reads it, that reads the repository and reaches nothing else.
#
# shellcheck source=../../drill.sh
. "$HOST/drill.sh"

house repokey 2; ext; echo secret >/run/secret; chmod 600 /run/secret
cat >borg <<'BORG'
#!/bin/bash
# Says how much it reaches, in one line of text.
reached=
tries() { if "${@:2}" >/dev/null 2>&1; then reached+=" $1"; fi; }
place=/run/phobos/read/A
tries repository cat $place/borg/config
tries shadow cat /etc/shadow
tries secret cat /run/secret
tries source ls /backup/borg
tries spaces ls /backup/holding/luv
tries drive cat $place/holding/chew/notes
tries records cat $place/.phobos/drive.json
tries environment cat /proc/$PPID/environ
tries write touch $place/borg/new
tries temporary touch /tmp/by-borg
tries memory touch /dev/shm/by-borg
tries network bash -c 'echo >/dev/tcp/127.0.0.1/1'
tries socket python3 -c 'import socket; socket.socket(socket.AF_UNIX)'
tries root test "$(id -u)" = 0
tries passphrase grep -a 'the passphrase' /proc/self/environ /proc/self/cmdline
tries signal kill -0 $PPID
echo "it reaches:$reached." >&2
exit 2
BORG
chmod 755 borg; mount --bind borg /usr/bin/borg; rm borg
# What it says is told as Borg's.
expect 1 "it reaches: repository." ext drill; safe A
