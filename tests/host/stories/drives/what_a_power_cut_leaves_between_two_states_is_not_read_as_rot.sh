# A reading does not replay a journal: of a drive that was cut off while it was written to it would see some of the old and some of the
# new, and call that rot.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A 100; ext; ext verify
# What is in the journal is not where it belongs.
mount "$A" disk.A; mv disk.A/.phobos/drive.json disk.A/.phobos/other; sync -f disk.A; cp A.img cut.img; mv disk.A/.phobos/other disk.A/.phobos/drive.json
umount disk.A; ext verify
free "$A"; mv cut.img A.img; attach A A.img; sed -i "s,^device = \"/dev/loop.*,device = \"$A\"," "$CONFIG"
expect 65 "was not unmounted when it was unplugged" ext verify; safe A
expect 0 finished ext; ext verify; sound A

# What asks an empty drive whether it tells names apart may be left by one, and is no reason to refuse the drive.
mkfs.xfs -q -f -d size=300m,name=x.img,file; attach x x.img; mount "$x" disk.x; : >disk.x/.phobos-probe; umount disk.x
printf '[[external.drive]]\nname = "x"\ndevice = "%s"\n' "$x" >>"$CONFIG"
expect 0 "copied 12 files" ext --drive x; safe x; sound x
