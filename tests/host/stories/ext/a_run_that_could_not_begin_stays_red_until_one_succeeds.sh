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
# The same of a reading, by a good one or by a mirror; and of one that has failed, by the mirror that makes that good.
read_failed() { phobos-blink jobs --json | tr -d ' \n' | grep -o '"name":"verify[^"]*","state":"failed"'; }
made_good_by() {
    expect 78 "no drive \"C\" is configured" ext verify C
    read_failed | grep -xF '"name":"verify","state":"failed"'
    "$@"; never read_failed
}
made_good_by ext verify
made_good_by ext
mount "$A" disk.A; mv disk.A/.phobos saved; umount disk.A
expect 65 "no mirror has been made" ext verify
read_failed | grep -xF '"name":"verify-A","state":"failed"'
mount "$A" disk.A; mv saved disk.A/.phobos; umount disk.A
ext; never read_failed
# Another run of the same drive that gives up waiting says nothing about the drive itself.
ns exec --lock drive/A -- sh -c "echo >$STORY/held; exec sleep 300" & holder=$!
until test -s held; do kill -0 $holder; done
expect 75 "gave up waiting for the lock drive/A" ext --lock-wait 0s
failed | grep -xF '"name":"ext","state":"failed"'
kill $holder
