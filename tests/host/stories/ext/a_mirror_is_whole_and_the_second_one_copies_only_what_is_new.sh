# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A
expect 0 "phobos-ext (by hand) finished" ext -- by hand
for word in drives2 colse; do expect 2 "is no command, and nothing was done" ext $word; done
expect 2 "did you mean \`phobos-ext close\`?" ext colse
INVOCATION_ID=x expect 0 "phobos-ext (by a unit) finished" ext --dry-run by a unit
safe A; sound A; never outside_sees /extbackup
mount "$A" disk.A; cmp disk.A/holding/luv/photo <(inside cat /backup/holding/luv/photo); umount disk.A
inside borg create /backup/borg::two /etc/hostname
expect 0 "copied" ext
never grep photo out
grep -E 'with [0-9.]+ k?B, deleted' out
safe A; sound A
test "$(grep -c '"exit":0' /var/lib/phobos/history.jsonl)" = 2
expect 0 "finished" inside phobos-ext --config "$CONFIG" -- within nsenter
# What is no disk cannot be taken off its bus: the mirror is complete and known, and the light says what was wanted in vain.
printf '[external]\npower-off = true\n' >>"$CONFIG"
expect 78 "the mirror to A is complete and the drive closed, but it was not taken off its bus" ext --drive A; safe A; sound A
ext drives | grep -E "^ *last complete mirror .*$(date +%H:)"; phobos-blink jobs | grep '^light: failed '
expect 0 "" ext --drive A --dry-run
