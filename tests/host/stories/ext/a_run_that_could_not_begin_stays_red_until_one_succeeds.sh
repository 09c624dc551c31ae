# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A
failed() { phobos-blink jobs --json | tr -d ' \n' | grep -o '"name":"ext[^"]*","state":"failed"'; }
expect 78 "no drive \"C\" is configured" ext --dry-run --drive C
never failed
expect 78 "no drive \"C\" is configured" ext --drive C
failed | grep -xF '"name":"ext","state":"failed"'
expect 0 "finished" ext
never failed
# Another run of the same drive that gives up waiting says nothing about the drive itself.
ns exec --lock drive/A -- sh -c "echo >$STORY/held; exec sleep 300" & holder=$!
until test -s held; do kill -0 $holder; done
expect 75 "gave up waiting for the lock drive/A" ext --lock-wait 0s
failed | grep -xF '"name":"ext","state":"failed"'
kill $holder
