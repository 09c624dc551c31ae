# Btrfs has no device number of its own disk in the table of mounts; what drives are sold with keeps neither owners nor links.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive C 400
mounted() { cat /proc/[0-9]*/mountinfo | grep " $C "; }
for kind in btrfs xfs; do
    case $kind in btrfs) mkfs.btrfs -q -f "$C";; *) mkfs.xfs -q -f "$C";; esac
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
