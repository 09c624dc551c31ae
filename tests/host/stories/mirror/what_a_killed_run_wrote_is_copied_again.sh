# A run that was killed is not believed: size and time prove nothing about what it wrote.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A 400; ns
inside sh -c 'head -c 100000000 /dev/urandom >/backup/holding/luv/film; head -c 5000 /dev/urandom >/backup/holding/luv/a
    for number in $(seq 30); do echo "$number" >/backup/holding/luv/$number; done'
phobos-ext --config "$CONFIG" >running 2>&1 & run=$!; until pgrep -x rsync >/dev/null; do kill -0 $run; done
kill -KILL $run; wait $run || true; while pgrep -x rsync >/dev/null; do :; done
ext --drive A close; safe A
# The kernel has lost what it wrote, and size and time are right.
mount "$A" disk.A; test -s disk.A/.phobos/run.json; mkdir -p disk.A/holding/luv
time=$(inside stat -c @%.9Y /backup/holding/luv/a); head -c 5000 /dev/zero >disk.A/holding/luv/a; touch -d "$time" disk.A/holding/luv/a
# Of small files a power cut leaves the names: they are no sign that the source was replaced.
for number in $(seq 30); do : >"disk.A/holding/luv/$number"; done
umount disk.A
expect 0 "an earlier run did not prove" ext
mount "$A" disk.A; cmp disk.A/holding/luv/a <(inside cat /backup/holding/luv/a)
test "$(cat disk.A/holding/luv/30)" = 30; test ! -e disk.A/.phobos/run.json; umount disk.A
sound A

# Whenever the clock of that run said that it was.
later() { sed -i "s/\"since\": .*,/\"since\": $(($(date +%s) + 1000000)),/" run.json; }
mount "$A" disk.A
printf '{"version": 1, "since": 0, "transaction": 1}' | sed 's/, "/,\n"/g' >run.json; later; cp run.json disk.A/.phobos/
head -c 5000 /dev/zero >disk.A/holding/luv/a; touch -d "$time" disk.A/holding/luv/a; written=$(date +%s); umount disk.A
until [ "$(date +%s)" -gt $((written + 3)) ]; do sleep 0.2; done
expect 0 "so that a clock was wrong" ext
mount "$A" disk.A; cmp disk.A/holding/luv/a <(inside cat /backup/holding/luv/a); umount disk.A
