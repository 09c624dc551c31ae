# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; drive B
ext --drive A >a 2>&1 & a=$!; ext --drive B >b 2>&1 & b=$!; wait $a; wait $b
safe A; safe B; sound A; sound B
inside mount "$A" /extbackup
expect 0 "unmounting /extbackup, which an earlier run has left mounted" ext --drive B
safe A; safe B
# Mounted where no process sees it, in a namespace that only a file keeps: the kernel knows all the same.
mkdir kept; mount --bind kept kept; mount --make-private kept; touch kept/ns
keep kept/ns mount "$A" /mnt
expect 1 "is still in use" ext --drive A
umount kept/ns
mount "$A" /extbackup
expect 65 "/extbackup is mounted outside the namespace; run \`umount /extbackup\` first" ext --drive B
