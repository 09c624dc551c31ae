# rsync takes two files of one size for the same where their times differ by less than a second, unless it is told otherwise.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

# The second drive keeps whole seconds only: the time of each of its files differs, which is no reason to copy them all again.
backup_disk; drive A; EXT4='-I 128' drive B; ns
cd_holding() { inside sh -c "cd /backup/holding/luv; $1"; }
cd_holding 'echo one >note; touch -d "2026-01-01 00:00:00.1" note; echo old >old; touch -d "1970-01-01 00:00:00 UTC" old'
for name in A B; do
    ext --drive "$name"; expect 0 "copied 0 files" ext --drive "$name"
done
cd_holding 'echo two >note; touch -d "2026-01-01 00:00:00.9" note'
expect 0 "copied 1 files" ext --drive A; expect 0 "copied 0 files" ext --drive A
mount "$A" disk.A; grep two disk.A/holding/luv/note; umount disk.A
# A run that did not prove what it wrote: whatever the time of a file is, it is copied again.
mount "$A" disk.A; echo bad >disk.A/holding/luv/old; touch -d "1970-01-01 00:00:00 UTC" disk.A/holding/luv/old
echo '{"version":1,"since":0,"transaction":null}' >disk.A/.phobos/run.json; umount disk.A
expect 0 "an earlier run did not prove" ext --drive A
mount "$A" disk.A; cat disk.A/.phobos/drive.json; grep old disk.A/holding/luv/old; umount disk.A
