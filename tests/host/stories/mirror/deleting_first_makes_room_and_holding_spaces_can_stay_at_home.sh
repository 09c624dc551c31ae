# What has to be written is reckoned before the first byte; where it does not fit, the way out has to be asked for. The holding
# spaces are in Borg's archives, and may be left out.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A 32; ns; ext; sed -i '1i [external]\nholding = false' "$CONFIG"
film() {
    inside sh -c 'head -c 11000000 /dev/urandom >/backup/holding/luv/film'
    inside borg create --compression none "/backup/borg::$1" /backup/holding/luv/film
}
film two; ext
mount "$A" disk.A; test -s disk.A/holding/luv/photo; never test -e disk.A/holding/luv/film; umount disk.A
inside borg delete /backup/borg::two; inside borg compact --threshold 1 /backup/borg; film three
before=$(content A)
expect 65 "have to be written and" ext; grep -- "--delete-first deletes it before" out
test "$(content A)" = "$before"; safe A; sound A
expect 0 "deleting first: until this run has ended well, the drive has no whole copy" ext --delete-first
safe A; sound A
mount "$A" disk.A; borg list disk.A/borg | grep three; never borg list disk.A/borg::two
never test -e disk.A/.phobos/run.json; test -s disk.A/holding/luv/photo; umount disk.A
