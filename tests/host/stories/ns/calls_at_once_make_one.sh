# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk
for _ in 1 2 3 4 5 6 7 8; do ns & pids="${pids:-} $!"; done
for pid in $pids; do wait "$pid"; done
test "$(grep -c " $NS " /proc/self/mountinfo)" = 1
test "$(inside grep -c ' /backup ' /proc/self/mountinfo)" = 1
