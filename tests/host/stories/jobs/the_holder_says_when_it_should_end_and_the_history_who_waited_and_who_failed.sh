# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; ns; mkfifo go
job=(phobos-ns --config "$CONFIG" exec)
history=/var/lib/phobos/history.jsonl
# Two good runs of an hour each; the second one waited for another hour.
echo '{"job":"night","start":"2026-03-01T03:00:00Z","end":"2026-03-01T04:00:00Z","exit":0}' >$history
echo '{"job":"night","start":"2026-03-02T02:00:00Z","end":"2026-03-02T04:00:00Z","exit":0,"waited_secs":3600}' >>$history
before=$(date +%s)
"${job[@]}" --job night --lock holding --lock repository -- sh -c 'read x <go; exit 3' & night=$!
until ns status | grep 'held by: night' >held && [ "$(grep -c . held)" = 2 ]; do kill -0 $night; done
grep -o 'expected to end .*' held | sed 's/expected to end //' | while read -r until; do
    length=$(($(date +%s -d "$until") - before))
    test $length -ge 3600; test $length -lt 3700
done
expect 75 "gave up waiting for the lock holding, held by night (pid $night, since" "${job[@]}" --lock holding:shared --lock-wait 1ms -- true
grep -F ', expected to end at ' out
# Another job waits for more than a second, and says so in the history.
"${job[@]}" --job pull-luv --lock holding:shared --lock holding/luv -- true 2>told & pull=$!
until ns status | grep 'awaited by: pull-luv'; do kill -0 $pull; done
grep "waiting for the lock holding, held by night (pid $night, since .*, expected to end at " told
since=$SECONDS; until [ $((SECONDS - since)) -ge 2 ]; do kill -0 $pull; done
echo >go; never wait $night; wait $pull
tail -2 $history
grep '"job":"night",.*"exit":3,"error":"sh failed with exit code 3","origin":"sh"' $history
grep '"job":"pull-luv",.*"exit":0,"waited_secs":[1-9]' $history
# A run that gave up, one that was stopped, and one that could not begin are in it as well.
"${job[@]}" --lock local/x -- sh -c 'echo >ready; exec sleep 300' & holder=$!
until ns status | grep '^lock local/x'; do kill -0 $holder; done
expect 75 "gave up" "${job[@]}" --job late --lock local/x --lock-wait 1ms -- true
"${job[@]}" --job stopped --lock local/x -- true & stopped=$!
until ns status | grep 'awaited by: stopped'; do kill -0 $stopped; done
kill -TERM $stopped; code=0; wait $stopped || code=$?; test $code = 143
kill $holder; wait $holder || true
grep '"job":"late",.*"exit":75,"error":"gave up waiting for the lock local/x, held by phobos-ns exec' $history
grep '"job":"stopped",.*"exit":143,.*"origin":"signal"' $history
ns remove; : >fstab
expect 78 "no entry for /backup" "${job[@]}" --job nowhere --lock local/x -- true
grep '"job":"nowhere",.*"exit":78,"error":"no entry for /backup' $history
