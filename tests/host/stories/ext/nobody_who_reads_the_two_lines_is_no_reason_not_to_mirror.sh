# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A
ext >/dev/full 2>out || { cat out; exit 1; }
grep "cannot write to standard output" out; safe A; sound A
inside borg create /backup/borg::two /etc/hostname
ext >&- 2>out || { cat out; exit 1; }
safe A; sound A
test "$(grep -c '"exit":0' /var/lib/phobos/history.jsonl)" = 2
# Few descriptors: whatever becomes of the mirror, the light is not green without it, and the failure is told.
code=0; (ulimit -n 12; phobos-ext --config "$CONFIG") >out 2>&1 || code=$?; cat out; test $code != 0
phobos-blink jobs --json | tr -d ' \n' | grep -o '"name":"ext[^"]*","state":"failed"'
ext; sound A
