# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A
expect 78 "no drive \"C\" is configured, only A" ext --drive C
expect 2 "is neither the name of a drive nor the UUID of a LUKS container" ext --drive ../A
expect 2 "unexpected argument '--dryrun'" ext --dryrun
mount --bind /dev/null /usr/bin/rsync; mount --bind /dev/null /usr/bin/borg
expect 78 "cannot find the programs borg, rsync; install them" ext
umount /usr/bin/rsync /usr/bin/borg
expect 77 "only root can do this" setpriv --reuid 65534 --clear-groups "$STORY/phobos-ext"
losetup -d "$A"; rm -f A.img
echo 'colour = 1' >>"$CONFIG"
expect 78 "unknown field \`colour\`" ext
chmod 666 "$CONFIG"
expect 78 "it can be written by others than root" ext
expect 78 "cannot read /no/such.toml" phobos-ext --config /no/such.toml
test "$(wc -l <out)" = 2
