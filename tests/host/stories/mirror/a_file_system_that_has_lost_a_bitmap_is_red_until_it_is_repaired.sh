# Every file reads as it was written, and the next write goes where one of them lies: the file system's own checker finds that
# before the light is green, and nothing more is written until it has repaired it.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"
require debugfs e2fsck xfs_repair

backup_disk; drive A; ns; ext; sound A
# A file that is gone and comes again writes to the drive.
more() { inside sh -c "head -c 3000000 /dev/urandom >/backup/holding/luv/more.$1"; }
light() { phobos-blink jobs --json | tr -d ' \n' | grep "\"name\":\"ext-A\",\"state\":\"$1\""; }
lose_a_bitmap() {
    block=$(debugfs -R 'blocks holding/luv/photo' "$A" 2>/dev/null | cut -d' ' -f1); test "$block" -gt 0
    debugfs -w -R "freeb $block 4" "$A"; never e2fsck -fn "$A"
}
lose_a_bitmap; more 1
expect 1 "the drive or its cable is failing: the file system on $A has errors: " ext; safe A; light failed
# It is told once more, before anything is written.
image=$(sha256sum <"$A")
expect 65 "the file system of the drive is marked as one with errors; check it with \`e2fsck -f $A\`" ext; safe A; light failed
test "$image" = "$(sha256sum <"$A")"
e2fsck -fy "$A" || test $? -lt 4
ext; safe A; sound A; light ok; e2fsck -fn "$A"
mount -o ro "$A" disk.A; cmp disk.A/holding/luv/more.1 <(inside cat /backup/holding/luv/more.1); umount disk.A
inside sh -c 'cd /backup/holding; find . -type f | sort | xargs -d "\n" sha256sum' >wanted
mount -o ro "$A" disk.A; (cd disk.A/holding; sha256sum --quiet -c "$STORY/wanted"); umount disk.A

# A checker that is not there, or does not come to its end, is no file system that is sound.
more 2; real=$(command -v e2fsck); printf '#!/bin/sh\nexit 8\n' >fake; chmod 755 fake; mount --bind fake "$real"
expect 1 "\`e2fsck -f -n $A\` failed with exit code 8" ext; safe A; light failed
mount -o ro "$A" disk.A; test -s disk.A/.phobos/run.json; umount disk.A
umount "$real"; expect 0 "an earlier run did not prove that all is on the disk" ext; safe A; sound A; light ok
