# A subvolume has a device number of its own, and no file of it has a name elsewhere: neither is a reason to refuse one, on the backup
# disk or on a drive.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"
require btrfs mkfs.btrfs

btrfs_disk() { truncate -s "$2M" "$1.img"; mkfs.btrfs -q "$1.img"; attach "$1" "$1.img"; }
# subvolume PATH: the folder as a subvolume with the same in it.
subvolume() { mv "$1" "$1.before"; btrfs subvolume create "$1"; cp -a "$1.before/." "$1/"; rm -r "$1.before"; }

btrfs_disk bdisk 2000
echo "$bdisk /backup btrfs noauto,noatime 0 0" >>fstab
mount "$bdisk" disk.bdisk; mkdir -p disk.bdisk/holding/luv; head -c 3000000 /dev/urandom >disk.bdisk/holding/luv/photo
borg init -e none disk.bdisk/borg; borg create disk.bdisk/borg::one disk.bdisk/holding
for path in borg holding/luv holding; do subvolume "disk.bdisk/$path"; done
umount disk.bdisk
drive A; drive B 300 btrfs_disk
for drive in A B; do expect 0 "copied 12 files" ext --drive $drive; safe $drive; sound $drive; done

mount "$B" disk.B; subvolume disk.B/borg; subvolume disk.B/holding; umount disk.B
inside borg create /backup/borg::two /etc/hostname
for drive in A B; do
    ext --drive $drive; expect 0 "copied 0 files" ext --drive $drive; safe $drive; sound $drive
    ext verify $drive --all
done
# The subvolume that was the copy makes way like any other generation.
inside borg create /backup/borg::three /etc/hostname; ext --drive B; sound B
mount "$B" disk.B; test "$(find disk.B/.phobos/generation -mindepth 1 -maxdepth 1 | wc -l)" = 1; umount disk.B

# Another disk in the place of the repository is refused as before.
disk other 50; inside mount "$other" /backup/borg/data
expect 65 "is mounted in /backup" ext --drive A; inside umount /backup/borg/data; safe A
