# A drive, or a host that was pulled, can give a file many MB of extended attributes: they are compared one at a time.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

EXT4='-O ea_inode'; backup_disk; drive A 600; ns
inside python3 -c '
import os
for number in range(180): os.setxattr("/backup/holding/luv/photo", f"user.{number}", bytes([number % 251]) * 65000)'
ext
# Both sides are alike, so that each attribute is looked at.
expect 0 "copied 0 files" within 20480 phobos-ext --config "$CONFIG"
