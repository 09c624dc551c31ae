# Holding spaces and drives may have folders with hundreds of thousands of names, each as long as a name can be. Of sixty thousand the
# names alone are 15 MB, which a program that keeps them all does not have; with PHOBOS_LONG they are more.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

many=60000
if [ "$PHOBOS_LONG" ]; then many=100000; fi
EXT4='-N 500000'; backup_disk; drive A 1200; EXT4=
small() { expect "$1" "$2" within 20480 phobos-ext --config "$CONFIG" "${@:3}"; }
# names FOLDER COUNT: that many, which differ in the end only.
names() { mkdir -p "$1"; python3 -c 'import os, sys; os.chdir(sys.argv[1]); [os.mknod("n" * 240 + str(n)) for n in range(int(sys.argv[2]))]' "$@"; }
ns
mount "$bdisk" disk.bdisk; names disk.bdisk/holding/luv/mails $many; umount disk.bdisk
small 0 "copied ${many%00}"
# What only the drive has: below a space, where the generation before is, and where the spaces are.
inside borg create /backup/borg::two /etc/hostname
mount "$A" disk.A; names disk.A/holding/luv/x $many; names disk.A/.phobos/generation/x/y $many; umount disk.A
small 0 "deleted ${many%00}"; sound A
mount "$A" disk.A; test -e disk.A/.phobos/generation; never test -e disk.A/.phobos/generation/x; names disk.A/holding 3000; umount disk.A
small 65 "has more than 2000 names"
