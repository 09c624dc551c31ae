# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A
mount "$A" disk.A; echo holiday >disk.A/photo; umount disk.A
before=$(content A)
expect 65 "the drive holds something else than a mirror of this repository, such as photo" ext
test "$(content A)" = "$before"; safe A
mount "$A" disk.A; rm disk.A/photo; ns
# What the original leaves on a drive: the repository with its lock in it, and no marker.
inside cat /proc/self/mountinfo >/dev/null
mount "$bdisk" disk.bdisk; cp -a disk.bdisk/borg disk.A/; umount disk.bdisk
mkdir disk.A/borg/lock.exclusive; echo '{}' >disk.A/borg/lock.roster; umount disk.A
expect 0 "belongs to the repository" ext
safe A; sound A
