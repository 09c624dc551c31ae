# Bit for bit, also where mounting by itself would write: a drive that was pulled has a journal to be replayed.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ext; inside borg create /backup/borg::two /etc/hostname; inside sh -c 'echo new >/backup/holding/luv/new'
mount "$A" disk.A; touch disk.A/lost+found; sync -f disk.A; cp A.img pulled.img; umount disk.A
dd if=pulled.img of="$A" bs=1M conv=notrunc,fsync status=none
dumpe2fs -h "$A" 2>/dev/null | grep needs_recovery
# Of the repository's own folder the times alone are Borg's lock's.
all() { inside sh -c "find /backup -path /backup/borg -printf '%p %i %m %U:%G\n' -o -printf '%p %y %i %n %s %m %U:%G %T@ %C@ %A@ %l\n' | sort; find /backup -type f | sort | xargs sha256sum"; }
touch stamp; all >before; drive=$(sha256sum <"$A")
expect 0 ">f+++++++++ holding/luv/new" ext --dry-run; grep -E "[0-9]+ changes would be made, with" out; grep "borg/data/0" out
all >after; cmp before after; test "$(sha256sum <"$A")" = "$drive"
test -z "$(inside find /backup -newer "$STORY/stamp" ! -path /backup/borg)"
inside sh -c 'echo x >/backup/borg/data/0/99.enc'
expect 65 "data/0/99.enc is no segment of Borg" ext --dry-run
test "$(sha256sum <"$A")" = "$drive"; never outside_sees /extbackup
