# The shell of a story about drills: an encrypted repository, whose passphrase comes as systemd's credential.
# shellcheck shell=bash
# shellcheck source=miniature.sh
. "$HOST/miniature.sh"

SEED=${PHOBOS_SEED:-$RANDOM}; echo "PHOBOS_SEED=$SEED"
export CREDENTIALS_DIRECTORY=$STORY/credentials
mkdir credentials; printf 'the passphrase\n' >credentials/borg-passphrase

drill() { ext drill --json "$@"; }
# told KEY: what the drill has said of it as JSON, in the file `found`.
told() { python3 -c 'import json, sys; print(json.load(open("found"))[sys.argv[1]])' "$1"; }

# bare: nothing of a drill is left: no mount, no notes of Borg, no process.
bare() {
    safe A
    if inside grep -E '/run/phobos/(drill|read|open)/' /proc/self/mountinfo; then echo "story: something is still mounted"; exit 1; fi
    if [ -n "$(find /run/phobos/drill -mindepth 1 2>/dev/null)" ]; then echo "story: a folder is left"; exit 1; fi
    if pgrep -x borg || [ -e borg-base ]; then echo "story: Borg is left, or what it keeps of a repository"; exit 1; fi
}

# house HOW COUNT: the backup disk with a repository encrypted so, with so many files of luv in its archive, and the drive A with a
# mirror of it.
house() {
    disk bdisk 2000; echo "$bdisk /backup ext4 noauto,noatime 0 0" >>fstab; mount "$bdisk" disk.bdisk
    mkdir -p disk.bdisk/holding/luv disk.bdisk/holding/chew; echo notes >disk.bdisk/holding/chew/notes
    for number in $(seq "$2"); do head -c $((number * 5000 + 30000)) /dev/urandom >"disk.bdisk/holding/luv/photo $number"; done
    BORG_PASSPHRASE='the passphrase' borg init -e "$1" disk.bdisk/borg
    sed -i "s/^max_segment_size = .*/max_segment_size = 500000/" disk.bdisk/borg/config
    umount disk.bdisk; drive A 200; ns
    inside sh -c 'cd /backup && BORG_PASSPHRASE="the passphrase" borg create --compression none borg::nas-2026-01-01 /backup/holding'
    rm -rf "$STORY/borg-base"
}
