# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk
disk ipod 20; disk stick 20
mount "$ipod" disk.ipod
mount "$stick" disk.stick; mount --make-private disk.stick
ns
umount disk.ipod; umount disk.stick
# Only the kernel knows whether somebody still has a file system open: ext4 can be checked only when nobody has.
e2fsck -fn "$ipod"; free "$ipod"; free "$stick"
