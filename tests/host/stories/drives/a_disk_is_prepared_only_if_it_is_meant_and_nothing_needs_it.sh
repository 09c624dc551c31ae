# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; disk B 30; truncate -s 30M A.img; attach A A.img
# A loop device has no serial number: its size stands for it.
size=$((30 << 20))
whole() { sha256sum [AB].img /etc/fstab; stat -c "%n %y %b" "${disks[@]}"; ls -A "$STORY/keys" "$STORY/headers" "$STORY/drives.d" /var/lib/phobos 2>&1 || true; }
disks=(A.img B.img bdisk.img)
prepare() { ext prepare "$@"; }
# refused CODE TEXT WORD…: nothing is changed, on no disk and in no folder, not one byte.
refused() {
    local before after
    before=$(whole); expect "$1" "$2" prepare "${@:3}" </dev/null; after=$(whole)
    test "$before" = "$after"
}
# typing TEXT COMMAND…: runs the command on a terminal, and types the text when it is asked to.
typing() {
    python3 -c '
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
said, typed = b"", False
try:
    while part := os.read(terminal, 1000):
        said += part
        if not typed and b"to go on: " in said:
            typed = os.write(terminal, sys.argv[1].encode())
except OSError:
    pass
sys.stdout.buffer.write(said.replace(b"\r", b""))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))' "$@"
}
refused 2 "nobody is there to type the serial number: say it with --serial" "$A" --name A
refused 65 "the size in bytes of $A is $size, not \"WX1\"; nothing was changed" "$A" --name A --serial WX1
refused 65 "is the disk of the backups itself" "$bdisk" --name A --serial $((2000 << 20)) --wipe
refused 65 "has ext4 \"B\" ($B) on it; if all of that may go for good, say --wipe" "$B" --name A --serial $size
mount "$B" disk.B; refused 65 "$B is mounted at" "$B" --name A --serial $size --wipe; umount disk.B
# Where nobody here sees it: in a mount namespace of somebody else's.
unshare --mount --propagation private sh -c "mount $B $STORY/disk.B; touch $STORY/mounted; exec sleep 100" & other=$!
until [ -e mounted ]; do sleep 0.1; done
refused 65 "$B is in use, seen by" "$B" --name A --serial $size --wipe
kill $other; wait $other || true
printf 'LABEL=B /srv ext4 noauto 0 0\n' >>fstab
refused 65 "$B is needed by this machine: /etc/fstab has it for /srv" "$B" --name A --serial $size --wipe
sed -i '/srv/d' fstab
printf '[[external.drive]]\nname = "B"\ndevice = "%s"\n' "$B" >>"$CONFIG"
refused 65 "is the drive B, with its copy" "$B" --name A --serial $size --wipe
refused 78 "another drive is called B" "$A" --name B --serial $size
truncate -s 3M small.img; attach small small.img
# From here on the backup disk is mounted.
ns; disks=(A.img B.img small.img)
refused 65 "it would not fit" "$small" --name A --serial $((3 << 20))
refused 66 "is no block device" "$CONFIG" --name A --serial 1
refused 2 "is no name for a drive" "$A" --name 'A;reboot' --serial $size
mkdir keys; echo mine >keys/A.key; refused 78 "there is a key file for a drive A already" "$A" --name A --serial $size; rm -r keys
# A dry run asks for nothing, and shows the commands.
before=$(whole); expect 0 "$ sfdisk --quiet --wipe=always --wipe-partitions=always -- $A" prepare "$A" --name A --dry-run </dev/null
test "$before" = "$(whole)"
grep -F "$ cryptsetup luksFormat" out; grep -F "< extbackup-A UUID=" out; grep -F "nothing is on it" out

for typed in WX1 "" " "; do
    expect 65 "not \"${typed# }\"; nothing was changed" typing "$typed"$'\n' phobos-ext --config "$CONFIG" prepare "$A" --name A
done
expect 130 "stopped by signal 2; nothing was changed" typing $'\003' phobos-ext --config "$CONFIG" prepare "$A" --name A
expect 2 "nothing was typed" typing $'\004' phobos-ext --config "$CONFIG" prepare "$A" --name A
test "$before" = "$(whole)"

# Cut short before anything is on the disk, it is gone on with: the same key, the same identifiers.
printf '#!/bin/sh\ncat >>"$STORY/script"; echo "no such luck" >&2; exit 1\n' >sfdisk; chmod +x sfdisk
expect 1 "cannot make one partition of the whole disk; the drive A is not ready" prepare "$A" --name A --serial $size
grep "no such luck" out; grep "step 4 of 15" out; test "$(stat -c '%a %s' keys/A.key)" = "400 64"; test "$(stat -c %a keys headers)" = "700
700"; cp keys/A.key was
grep -F "\"known_by\": \"$size\"" /var/lib/phobos/prepare/A.json
expect 1 "no such luck" typing $size$'\n' phobos-ext --config "$CONFIG" prepare "$A" --name A; cmp was keys/A.key
test "$(grep -c 'label: gpt' script)" = 2; test "$(sort -u script | wc -l)" = 3
# Two at once: the second one is told, and does nothing.
printf '#!/bin/sh\ntouch "$STORY/in"; exec sleep 30\n' >sfdisk; phobos-ext --config "$CONFIG" prepare "$A" --name A --serial $size & first=$!
until [ -e in ]; do sleep 0.1; done
expect 75 "held by phobos-ext prepare" prepare "$A" --name A --serial $size; expect 75 "held by phobos-ext prepare" prepare "$small" --name C --serial $((3 << 20))
kill $first; wait $first && exit 1; test $? = 143
# Folders that cannot be written are told before the disk is touched, and so is a disk of the system's that is full.
rm sfdisk keys/A.key; before=$(sha256sum <A.img); mount -t tmpfs -o nr_inodes=1 tmpfs keys
expect 1 "No space left on device" prepare "$A" --name A --serial $size; umount keys; rmdir keys; echo file >keys
expect 1 "cannot make $STORY/keys" prepare "$A" --name A --serial $size
test "$before" = "$(sha256sum <A.img)"
