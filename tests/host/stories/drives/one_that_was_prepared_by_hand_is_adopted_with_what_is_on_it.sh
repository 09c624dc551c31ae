# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; disk A 100; disk B 100; drive C
# A drive with films on it is refused by a mirror, and taken over when somebody says so.
mount "$A" disk.A; mkdir disk.A/films; echo film >disk.A/films/one; umount disk.A
before=$(copy A)
expect 0 "left alone on the drive, because phobos did not put it there: films" ext adopt "$A" --name A
grep "wrote $STORY/drives.d/A.toml" out; test "$(copy A)" = "$before"; safe A
printf '[[external.drive]]\nname = "A"\ndevice = "%s"\n' "$A" | cmp - drives.d/A.toml
expect 0 "A  is next" ext drives --drive A
expect 0 finished ext --drive A; mount "$A" disk.A; grep film disk.A/films/one; test -e disk.A/borg/config; umount disk.A; sound A
# Again it changes nothing, and with the ledger gone it knows what the drive says.
rm /var/lib/phobos/drives.json; before=$(copy A); cp drives.d/A.toml was
expect 0 "belongs to the repository" ext adopt "$A" --name A; test "$(copy A)" = "$before"; cmp was drives.d/A.toml
expect 0 "transaction" ext drives --drive A
# The original's copy, which has no record.
mount "$A" disk.A; rm -r disk.A/.phobos; umount disk.A; rm drives.d/A.toml
expect 0 "left alone on the drive, because phobos did not put it there: films" ext adopt "$A" --name A; expect 0 finished ext --drive A; sound A
# What is not to be taken over is left bit for bit as it was.
refused() {
    local before after
    before=$(sha256sum <"$3"); expect "$1" "$2" ext adopt "$3" --name "$4"; after=$(sha256sum <"$3")
    test "$before" = "$after"; test ! -e "drives.d/$4.toml"
}
refused 78 "this drive is configured already, as A" "$A" B
refused 78 "another drive is called C; give this one another name" "$B" C
expect 65 "is the disk of the backups itself" ext adopt "$bdisk" --name B; never inside test -e /backup/.phobos
mount "$B" disk.B; mkdir disk.B/holding; umount disk.B; refused 65 "holding is on the drive, which has no copy" "$B" B
mount "$B" disk.B; rmdir disk.B/holding; borg init -e none disk.B/borg; umount disk.B; refused 65 "the drive holds the repository" "$B" B
mkfs.vfat "$B" >/dev/null; refused 65 "file system is vfat" "$B" B
printf 'LUKS\272\276\0\2' | dd of="$B" conv=notrunc status=none
printf '11111111-2222-4333-8444-555555555555' | dd of="$B" bs=1 seek=168 conv=notrunc status=none
refused 78 "there is no key file /etc/phobos/keys/B.key; name it with --key-file" "$B" B
expect 66 "is no block device" ext adopt "$CONFIG" --name B
expect 66 "/nowhere cannot be found" ext adopt /nowhere --name B
expect 2 "is no name for a drive" ext adopt "$A" --name ../A
echo '[[external.drive]]' >drives.d/D.toml; expect 78 "drives.d/D.toml:1: " ext drives
