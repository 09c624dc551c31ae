# Three drives, of which one is plugged in: the ledger knows them all, and the drive itself where the ledger is gone.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; disk A 100; disk B 100; ln -s "$A" plug-A; ln -s "$B" plug-B
for name in A B C; do printf '[[external.drive]]\nname = "%s"\ndevice = "%s/plug-%s"\n' $name "$STORY" $name >>"$CONFIG"; done
ledger=/var/lib/phobos/drives.json
field() { ext drives --json | tr -d ' \n' | grep -o "{\"name\":\"$1\".*" | grep -oP "^.*?\"$2\":\K[^,}]*"; }
expect 0 "A  is next" ext drives; test ! -e $ledger
expect 0 "finished" ext --drive A
test "$(stat -c %a $ledger)" = 644; grep '"schema_version": 1' $ledger
# As udev has it: a day ago, and in any case not before the machine's start.
mkdir -p /run/udev/data; echo I:1000000 >"/run/udev/data/b$(lsblk -dno MAJ:MIN "$A" | tr -d ' ')"
expect 0 "B  is next: bring it by" ext drives; grep "plugged in since" out; grep "away; never seen here" out
test "$(field A turn) $(field B turn) $(field C turn)" = "2 0 1"
transaction=$(field A transaction); test "$transaction" -gt 0; test "$(field A used)" -gt 3000000
rm plug-A; expect 0 "A  has time until" ext drives; grep "away; last seen on" out; test "$(field A plugged_in)" = false
awk 'length > 80 { exit 1 }' out
# A run that fails stands first, and says why.
inside sh -c 'mv /backup/borg/config /backup/config'; expect 65 "" ext --drive B; inside mv /backup/config /backup/borg/config
expect 0 "its last run failed on" ext drives; head -n1 out | grep "^B  "
# Without the ledger the history tells when, and the drive itself all the rest.
ln -s "$A" plug-A
for damage in missing damaged; do
    case $damage in missing) rm $ledger;; *) echo '{' >$ledger;; esac
    test "$(field A transaction) $(field A used)" = "null null"; expect 0 "last complete mirror" ext drives
    expect 0 "last complete mirror" ext drives --look
    test "$(field A transaction)" = "$transaction"; test "$(field A used)" -gt 3000000
    never outside_sees /extbackup; safe A
done
test "$(cat $ledger.damaged)" = '{'
# And on a machine that has neither.
rm $ledger /var/lib/phobos/history.jsonl; expect 0 "A  is next" ext drives; expect 0 "C  has time" ext drives --drive C; never grep '^A' out
expect 0 "transaction $transaction" ext drives --look
phobos-ns --config "$CONFIG" exec --lock drive/A -- sh -c "echo >$STORY/held; exec sleep 300" & holder=$!
until test -s held; do kill -0 $holder; done
expect 75 "cannot look at the drive A: gave up waiting for the lock drive/A" ext drives --look; kill $holder; wait $holder || true
# A ledger that cannot be written fails no mirror.
rm $ledger $ledger.damaged; mkdir -p $ledger/x $ledger.damaged/y; expect 0 "finished" ext --drive A; grep "cannot write the ledger" out
# A stranger's repository is no copy of ours.
rm -r $ledger $ledger.damaged
mount "$A" disk.A; sed -i 's/"repository": "../"repository": "00/' disk.A/.phobos/drive.json; umount disk.A
expect 0 "the drive A belongs to another repository" ext drives --look
expect 77 "only root can do this" setpriv --reuid 65534 --clear-groups "$STORY/phobos-ext" --config "$CONFIG" drives --look
