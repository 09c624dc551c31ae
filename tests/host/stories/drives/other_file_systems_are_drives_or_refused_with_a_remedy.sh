# Btrfs has no device number of its own disk in the table of mounts; what drives are sold with keeps neither owners nor links.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive C 400
# Dates of files that not all of them can keep.
mount "$bdisk" disk.bdisk; for year in 1850 2039 2100 2500; do touch -d $year-06-01 disk.bdisk/holding/luv/$year; done; umount disk.bdisk
mounted() { cat /proc/[0-9]*/mountinfo | grep " $C "; }
for kind in btrfs xfs old-xfs old-ext4; do
    case $kind in
        btrfs) mkfs.btrfs -q -f "$C" ;;
        xfs) mkfs.xfs -q -f "$C" ;;
        old-xfs) mkfs.xfs -q -f -m bigtime=0 "$C" ;;
        *) mkfs.ext4 -q -F -I 128 "$C" ;;
    esac
    ext; never mounted; sound C
    inside borg create /backup/borg::$kind /etc/hostname; ext; never mounted; sound C
    inside mount "$C" /extbackup
    expect 0 "which a run has left mounted" ext --drive C close; never mounted
done
# A private mount of the host's would be kept busy by the namespace for good.
mkfs.btrfs -q -f "$C"; ns remove; mkdir films; mount "$C" films; mount --make-private films
expect 0 "films is a private mount of the host; it is left out of the namespace" ns
umount films; never mounted; expect 0 finished ext
mkfs.vfat "$C"; before=$(sha256sum <"$C")
expect 65 "file system is vfat, which keeps no owners and links" ext; grep "make it anew, with \`mkfs.ext4\`" out
test "$(sha256sum <"$C")" = "$before"
