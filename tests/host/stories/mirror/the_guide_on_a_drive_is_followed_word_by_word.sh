# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"
require xxhsum

# typed HEADING SED: the commands below it, with the words in capitals filled in by SED; the packages are here, and there is no LUKS.
typed() {
    awk -v heading="$1" '/^-+$/ { on = index(before, heading) == 1 } { before = $0 } on && sub(/^        /, "")' guide |
        grep -vE '^(apt-get|cryptsetup|borg key) ' | sed "${2:-}" >commands
    test -s commands; cat commands
}
folder=$STORY/disk.A
by_hand() { env PATH=/usr/sbin:/usr/bin:/sbin:/bin bash -eux ./commands; }

backup_disk; drive A; ext
# As phobos-pull leaves what it pulls: a file of 1234:2345 with a set-user-ID bit, twice, and a link, all of the host's own user.
inside sh -euc 'cd /backup/holding/luv; printf ../photo >link; ln photo twin; chmod 600 photo link; chown 70000:70000 . photo link
    setfattr -n user.rsync.%stat -v "104711 0,0 1234:2345" photo; setfattr -n user.rsync.%stat -v "120777 0,0 1:2" link'
inside borg create /backup/borg::two /etc/hostname; ext
mount "$A" "$folder"; cp "$folder/HOW-TO-RESTORE.txt" guide
# Nothing of the machine that wrote it: neither Borg's memory nor its folders.
export BORG_BASE_DIR=$STORY/another
mount -t tmpfs tmpfs /root

typed 1. "s#FOLDER#$folder#"; by_hand; never touch /mnt/x
typed 2. 's#NAME#two#; s#HOST#luv#'; by_hand >listed; cat listed; grep '^one ' listed; grep '^two ' listed
cmp /root/back/etc/hostname /etc/hostname
test "$(stat -c '%a %u:%g %h' /root/back/photo)" = "4711 1234:2345 2"; cmp /root/back/photo "$folder/holding/luv/photo"
test "$(readlink /root/back/link)" = ../photo; test "$(stat -c %u:%g /root/back/link)" = 1:2
cp -a "$folder/borg" copy
typed 'If anything' "s#NAME#two#; s#COPY#$STORY/copy#"; by_hand
before=$(echo "$folder"/.phobos/generation/*); rm -r /root/back
typed 'If it is damaged'; cp commands first; typed 2. "s#/mnt/borg#$before#; s#NAME#one#; s#HOST#luv#"; cat commands >>first; mv first commands
by_hand >listed; never grep '^two ' listed; test -d /root/back
typed 3. "s#FOLDER#$folder#"; by_hand; safe A

# What has rotted is named by the same commands.
mount "$A" "$folder"; printf X | dd of="$folder/holding/luv/photo" bs=1 seek=1 conv=notrunc status=none
typed 1. "s#FOLDER#$folder#"; by_hand
typed 'If anything' "s#NAME#two#; s#COPY#$STORY/copy#"; by_hand >looked 2>&1 || true; cat looked; grep 'luv/photo: FAILED' looked
umount /mnt; umount "$folder"
