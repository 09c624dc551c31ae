# The journal gets a line every so often, however little rsync says; a person sees a bar.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A 400; ns
inside sh -c 'head -c 200000000 /dev/urandom >/backup/holding/luv/film; mkdir /backup/holding/many; cd /backup/holding/many; seq 1000 | xargs touch'
SECONDS=0; phobos-ext --config "$CONFIG" >running 2>&1 & run=$!
until kill -STOP $(pgrep -x rsync) 2>/dev/null; do kill -0 $run; done
until grep -E 'info: copied [0-9.]+ [kM]?B, [0-9]+ % of 2[0-9.]+ MB, .* free on the drive' running; do kill -0 $run; sleep 0.1; done
# 10 s after the beginning, 30 s, and so on: another one if this machine stood still for so long.
test $SECONDS -ge 9; kill -CONT $(pgrep -x rsync); wait $run; cat running
test "$(grep -c ' % of ' running)" -le 2; test "$(wc -l <running)" -lt 20; never grep '#' running
inside sh -c 'head -c 50000000 /dev/urandom >/backup/holding/luv/film'
script --quiet --return --command "phobos-ext --config $CONFIG" typescript >/dev/null </dev/null
tr '\r' '\n' <typescript >seen; sed 's/\x1b/^/g' seen
test "$(grep -cE '\[#* *\] copied [0-9.]+ [kM]?B, [0-9]+ % of 50' seen)" -ge 2; grep -E '\[#+ *\] copied 5[0-9.]+ MB, .* free on the drive' seen
safe A; sound A
