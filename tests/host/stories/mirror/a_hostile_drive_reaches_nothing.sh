# What a drive has at names that phobos opens: nothing of the host is read or written through it, and nothing hangs.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; EXT4="-b 4096" drive A; ext; mkdir victim; echo mine >victim/drive.json; echo mine >victim/x
digest() { find victim -type f | sort | xargs sha256sum; ls -lR victim; }
before=$(digest)
hostile() {
    mount "$A" disk.A; cp -a disk.A/.phobos saved; cp -a disk.A/borg savedborg; (cd disk.A; eval "$2"); umount disk.A
    SECONDS=0; code=0; ext "${@:3}" >out 2>&1 || code=$?; cat out; test $SECONDS -lt 20
    if [ "$1" = green ]; then test $code = 0; else test $code = 65; fi
    test "$(digest)" = "$before"; safe A; never grep -q $'\x1b' out
    mount "$A" disk.A; rm -rf disk.A/.phobos disk.A/borg disk.A/HOW*; mv saved disk.A/.phobos; mv savedborg disk.A/borg; umount disk.A
}
hostile refused "rm -r .phobos; ln -s $STORY/victim .phobos"
hostile refused "rm .phobos/drive.json; ln -s $STORY/victim/drive.json .phobos/drive.json"
hostile refused "rm .phobos/drive.json; mkfifo .phobos/drive.json"
hostile refused "rm .phobos/drive.json; ln -s /dev/zero .phobos/drive.json"
hostile refused "truncate -s 8G .phobos/drive.json"
hostile refused "printf '{\"version\":1,\"repository\":\"\\\\u001b[2J\",\"drive\":\"A\",\"transaction\":null,\"mirrored\":null}' >.phobos/drive.json"
hostile refused "rm -r borg/data; ln -s $STORY/victim borg/data"
hostile refused "rm -r borg; ln -s $STORY/victim borg"
hostile refused "rm borg/config; mkfifo borg/config"
hostile refused "truncate -s 15T borg/config"
hostile refused "rm -r .phobos/checksums; ln -s $STORY/victim .phobos/checksums"
hostile refused "ln -s $STORY/victim .phobos/config"
hostile green "truncate -s 15T .phobos/checksums/spaces .phobos/checksums/repository"
hostile green "rm .phobos/checksums/*; mkfifo .phobos/checksums/spaces .phobos/checksums/repository"
hostile green "ln -sf $STORY/victim/x .phobos/seal.json; ln -s $STORY/victim/x .phobos/checksums/spaces.new"
hostile green "ln -s $STORY/victim .phobos/incoming; rm -f HOW-TO-RESTORE.txt; ln -s $STORY/victim/x HOW-TO-RESTORE.txt"
hostile green "ln -s $STORY/victim/x .phobos/run.json.new; rm -rf .phobos/generation; ln -s $STORY/victim .phobos/generation"
ext; sound A
