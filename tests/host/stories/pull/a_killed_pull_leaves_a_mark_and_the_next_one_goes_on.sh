# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv "bandwidth-limit = '300KiB'"; client nuhc "bandwidth-limit = '300KiB'"
big_file luv photo; big_file nuhc photo
phobos-pull --config "$CONFIG" luv nuhc & job=$!
under_way luv photo $job; under_way nuhc photo $job
expect 0 "luv   running" pull list
kill -KILL $job; wait $job || true
expect 0 "luv   interrupted" pull list
test "$(mark luv state)" = running
# A half of rsync that goes on is ended by the next pull; whatever else is there is let alone.
mkdir /run/left; cp "$(command -v sleep)" /run/left/rsync
nsenter --mount="$NS" -- sh -c "cd $HOLDING/luv; exec /run/left/rsync 300" & left=$!
nsenter --mount="$NS" -- sh -c "cd $HOLDING/luv; exec sleep 300" & other=$!
for pid in $left $other; do until inside readlink /proc/"$pid"/cwd | grep -q luv; do kill -0 "$pid"; done; done
# A signal ends all of them in an orderly way.
phobos-pull --config "$CONFIG" luv nuhc & job=$!
until [ "$(pgrep -c -u 70000,70001 ssh)" = 2 ]; do kill -0 $job; done
code=0; wait $left || code=$?; test $code = 137; kill $other
kill -TERM $job; code=0; wait $job || code=$?
test $code = 143; ended -u 70000,70001
test "$(mark luv state)$(mark nuhc state)" = failedfailed
sed -i /bandwidth/d pull.d/*.toml
expect 0 "" pull luv nuhc
same luv; same nuhc
never inside sh -c "find $HOLDING -name '.phobos-*' | grep ."
