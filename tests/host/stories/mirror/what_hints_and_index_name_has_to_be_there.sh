# What the checksums of a segment cannot tell: one that ends between two entries, or is not there. Hints and index can,
# and where they are damaged themselves, Borg makes them anew.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ext; before=$(content A)
inside sh -c 'head -c 3000000 /dev/urandom >/backup/holding/luv/film'; inside borg create /backup/borg::two /backup/holding
mount "$bdisk" disk.bdisk; cp -a disk.bdisk/borg good; umount disk.bdisk
back() { inside sh -c "rm -rf /backup/borg; cp -a $STORY/good /backup/borg"; }
segment=$(inside sh -c 'ls -vd /backup/borg/data/0/* | tail -5 | xargs ls -S | head -1')
cat >cut.py <<'END'
import struct, sys
data, at, ends = open(sys.argv[1], "rb").read(), 8, []
while at < len(data):
    at += struct.unpack("<I", data[at + 4:at + 8])[0]
    ends.append(at)
open(sys.argv[1], "r+b").truncate(ends[0])
END
inside python3 "$STORY/cut.py" "$segment"
expect 65 "cut off before the objects that the index finds in them" ext; test "$(content A)" = "$before"; safe A; back
inside rm "$segment"
expect 65 "" ext; test "$(content A)" = "$before"; safe A; back
inside sh -c 'echo garbage | tee /backup/borg/hints.* /backup/borg/index.*'
expect 65 "lost both its hints and its index" ext; test "$(content A)" = "$before"; safe A
inside borg create /backup/borg::three /etc/hostname; ext; safe A; sound A
