# The kernel tells of a lost write once, and to whoever asks first: somebody else's sync must not make a run green. A hole in an
# image on a full file system is a bad spot; with room again, the drive is good.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; ns; mkdir room; mount -t tmpfs -o size=210M tmpfs room
fallocate -l 200M room/A.img; mkfs.ext4 -q -F -b 4096 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard room/A.img
fallocate -l 200M room/A.img
A=$(flock /dev/loop-control losetup --find --show room/A.img); echo "$A" >>loops; mkdir disk.A
printf '[[external.drive]]\nname = "A"\ndevice = "%s"\n' "$A" >>"$CONFIG"
ext; sound A
# Where the file goes a copy of the drive tells.
bad() {
    cp room/A.img probe.img; probe=$(flock /dev/loop-control losetup --find --show probe.img); echo "$probe" >>loops
    printf '[led]\ndevice = "none"\n[[external.drive]]\nname = "probe"\ndevice = "%s"\n' "$probe" >"$STORY/probe.toml"
    phobos-ext --config "$STORY/probe.toml"; mkdir -p probed; mount -o ro "$probe" probed
    place=$(filefrag -v -b4096 "probed/$1" | awk '$1 == "0:" { print $4 + 0, $6 + 0 }'); umount probed; losetup -d "$probe"
    from=${place% *} third=$((${place#* } / 3))
    fallocate --punch-hole --offset $(((from + third) * 4096)) --length $((third * 4096)) room/A.img
    dd if=/dev/zero of=room/filler bs=4096 2>/dev/null || true
}
good() { rm room/filler; }
lost() {
    bad "$1"; code=0; ext >out 2>&1 || code=$?; cat out; good
    test $code = 1; safe A
    phobos-blink jobs --json | tr -d ' \n' | grep '"name":"ext-A","state":"failed"'
    mount "$A" disk.A; test -s disk.A/.phobos/run.json; umount disk.A
    sound A
    expect 0 "an earlier run did not prove that all is on the disk" ext; safe A; sound A
    mount "$A" disk.A
    cmp disk.A/holding/luv/film <(inside cat /backup/holding/luv/film); never test -e disk.A/.phobos/run.json; umount disk.A
}
# Somebody else's sync right behind rsync is the first to be told.
real=$(command -v rsync); cp "$real" real-rsync
printf '#!/bin/sh\n"%s/real-rsync" "$@"; code=$?; sync -f /extbackup; exit $code\n' "$STORY" >fake; chmod 755 fake; mount --bind fake "$real"
inside sh -c 'head -c 20000000 /dev/urandom >/backup/holding/luv/film'; lost holding/luv/film
umount "$real"
inside borg create --compression none /backup/borg::film /backup/holding/luv/film
lost "borg/$(inside sh -c 'cd /backup/borg; ls -S data/0/* | head -1')"
