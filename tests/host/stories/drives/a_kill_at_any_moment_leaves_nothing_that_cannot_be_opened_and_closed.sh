# Whatever open, close or a mirror was doing when it was killed: the drive is closed with one word, opened with one, and mirrored to.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ext --drive A
place=/run/phobos/open/A
# killed AFTER WORD…: kills it after so long, with all that it has started.
killed() {
    local after=$1
    shift
    setsid phobos-ext --config "$CONFIG" "$@" >/dev/null 2>&1 & local group=$!
    sleep "$after"; kill -KILL -- -$group 2>/dev/null || true; wait $group || true
}
for after in 0.002 0.005 0.01 0.02 0.04 0.08; do
    killed $after open A; expect 0 "closed and safe to unplug" ext close A; safe A
    killed $after open A; test "$(ext open A)" = $place; inside test -e $place/borg/config
    killed $after close A; test "$(ext open A)" = $place; inside test -e $place/borg/config
    killed $after close A; expect 0 "closed and safe to unplug" ext close A; safe A
    inside sh -c 'date +%N >/backup/holding/luv/new'
    killed $after --drive A; test "$(ext open A)" = $place; inside test -e $place/borg/config; ext close A; safe A
    killed $after open A; ext close A; killed $after hold; ext hold --off; expect 0 finished ext --drive A; safe A
done
sound A
