# The shell of a story: a machine with a backup disk and room for drives.
# shellcheck shell=bash
set -euo pipefail
cd "$STORY"
exec >said 2>&1
# Not on the output: a command whose output is being looked at may fail as well.
trap 'echo "story: ${BASH_SOURCE[0]##*/} line $LINENO failed: $BASH_COMMAND" >&2' ERR

# require PROGRAM…: ends the story if one of them is not on this machine.
require() {
    local program
    for program; do
        if ! type "$program" >/dev/null 2>&1; then
            echo "story: $program is not installed here, for instance by \`cargo xtask setup\`"
            exit 1
        fi
    done
}
require borg rsync losetup mkfs.ext4 unshare setpriv

trap 'umount -l "$STORY"/disk.* 2>/dev/null || true; for loop in $(cat loops 2>/dev/null); do if ours "$loop"; then losetup -d "$loop" || true; fi; done' EXIT
PATH=$STORY:$PATH
export BORG_BASE_DIR=$STORY/borg-base BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
# Borg knows a machine by its network card; without one its number is another one each time.
BORG_HOST_ID=$(uname -n)@1; export BORG_HOST_ID
CONFIG=$STORY/phobos.toml
NS=/run/phobos/ns/backup

# A machine where everything is shared, as systemd makes it.
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir -p /dev/shm; mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -p /var/lib/phobos /backup /extbackup
mount -t tmpfs tmpfs /var/lib/phobos
# Nobody sends the mails of a story: on this machine's own disk they would wait for ever.
mkdir -p /var/spool/phobos; mount -t tmpfs tmpfs /var/spool/phobos
# What this machine's root has its shells do is no part of a story: a client's waited a minute for a lock of such a thing.
: >nothing
for file in /root/.bashrc /root/.bash_profile /root/.bash_login /root/.profile /root/.bash_logout; do
    if [ -e $file ]; then mount --bind nothing $file; fi
done
: >fstab
mount --bind fstab /etc/fstab
printf '[led]\ndevice = "none"\n' >"$CONFIG"

# disk NAME MB: a disk with ext4 on it, made with the options $EXT4, its device in $NAME.
EXT4=
disk() {
    image "$1" "$2"
    attach "$1" "$1.img"
}

# image NAME MB: its file system.
image() {
    truncate -s "$2M" "$1.img"
    # shellcheck disable=SC2086 # several words
    mkfs.ext4 -q -F $EXT4 -L "$1" "$1.img"
}

# attach NAME FILE: its device, in $NAME.
attach() {
    local device
    # Finding a free loop device and taking it are two steps: whoever tells stories on this machine takes turns.
    device=$(flock /dev/loop-control losetup --find --show "$2")
    echo "$device" >>loops
    eval "$1=$device"
    mkdir -p "disk.$1"
}

# ours DEVICE: a disk of this story is behind the loop device; let go of, it may be another story's in the next moment.
ours() { grep -q "^$STORY/" "/sys/block/${1#/dev/}/loop/backing_file" 2>/dev/null; }

# free DEVICE: nobody has the disk open any more, so that the kernel lets go of it at once.
free() { losetup -d "$1"; never ours "$1"; }

# backup_disk [HOW]: a disk for /backup with a repository of one archive and a holding space, and its fstab entry.
backup_disk() {
    "${1:-disk}" bdisk 2000
    echo "$bdisk /backup ext4 noauto,noatime 0 0" >>fstab
    mount "$bdisk" disk.bdisk
    mkdir -p disk.bdisk/holding/luv
    head -c 3000000 /dev/urandom >disk.bdisk/holding/luv/photo
    borg init -e none disk.bdisk/borg
    borg create disk.bdisk/borg::one disk.bdisk/holding
    umount disk.bdisk
}

# drive NAME [MB] [HOW]: an empty drive that is not encrypted, in the configuration.
drive() {
    "${3:-disk}" "$1" "${2:-100}"
    printf '[[external.drive]]\nname = "%s"\ndevice = "%s"\n' "$1" "${!1}" >>"$CONFIG"
}

# ended WORD…: what pgrep finds by these words has ended; what was killed is seen until its parent has taken note of it.
ended() {
    for _ in $(seq 200); do if ! pgrep "$@" >/dev/null; then return; fi; sleep 0.05; done
    pgrep -a "$@"
    echo "story: it has not ended: pgrep $*"
    exit 1
}

# expect CODE TEXT COMMAND…: runs the command, which must end with the code and say the text.
expect() {
    local want=$1 text=$2 code=0
    shift 2
    "$@" >out 2>&1 || code=$?
    cat out
    if [ "$code" != "$want" ]; then
        echo "story: \`$*\` ended with $code, not with $want"
        exit 1
    fi
    if [ -n "$text" ] && ! grep -qF -- "$text" out; then
        echo "story: \`$*\` did not say \`$text\`"
        exit 1
    fi
}

# within KB COMMAND…: runs the command and ends as it does, or with 99 if it took as many KB of memory or more at any time. The pages
# of its program's file do not count: unoptimized they are four times as many as in what is installed, which the bench measures whole.
within() {
    python3 -c '
import re, subprocess, sys, time
job = subprocess.Popen(sys.argv[2:])
peak = code = 0
# What is read last is the peak, as it never falls.
while job.poll() is None:
    status = open(f"/proc/{job.pid}/status").read()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    if found:
        peak = int(found[1])
        code = int(re.search(r"RssFile:\s+(\d+) kB", status)[1])
    time.sleep(0.001)
print(peak - code, "KB at most beside", code, "KB of its program")
sys.exit(job.returncode if 0 < peak - code < int(sys.argv[1]) else 99)' "$@"
}

# never COMMAND…: the command must fail; `! command` would not end a story, whatever it returns.
never() {
    if "$@"; then
        echo "story: \`$*\` went well"
        exit 1
    fi
}

# keep FILE COMMAND…: runs the command in a new mount namespace that only FILE keeps, and that follows this one, or does as $PROPAGATION says.
keep() {
    local file=$1 cpu
    shift
    # From Linux 6.18 on a nested namespace is refused (EINVAL) if it counts as older than the one it is made in; on the
    # processor that made the outer one it is younger for certain.
    for cpu in $(seq 0 $(($(nproc --all) - 1))); do
        if taskset --cpu-list "$cpu" unshare --mount="$file" --propagation "${PROPAGATION:-slave}" "$@"; then return; fi
    done
    return 1
}

ns() { phobos-ns --config "$CONFIG" "$@"; }
ext() { phobos-ext --config "$CONFIG" "$@"; }
inside() { nsenter --mount=$NS -- "$@"; }
outside_sees() { grep -q " $1 " /proc/self/mountinfo; }

# safe NAME: the drive is mounted nowhere.
safe() {
    local number
    number=$(lsblk -dno MAJ:MIN "${!1}" | tr -d ' ')
    if cat /proc/[0-9]*/mountinfo | grep " $number " || inside cat /proc/self/mountinfo | grep " $number "; then
        echo "story: the drive $1 is still mounted"
        exit 1
    fi
}

# sound NAME: the copy on the drive is a whole repository, also for another machine, and has no lock of ours.
sound() {
    mount "${!1}" "disk.$1"
    test ! -e "disk.$1/borg/lock.exclusive"
    test ! -e "disk.$1/borg/lock.roster"
    BORG_HOST_ID=elsewhere@1 BORG_BASE_DIR=$STORY/elsewhere borg check "disk.$1/borg"
    BORG_HOST_ID=elsewhere@1 BORG_BASE_DIR=$STORY/elsewhere borg extract --dry-run "disk.$1/borg::one"
    umount "disk.$1"
}

# content NAME [FIND…]: a digest of everything on the drive that find's words choose, to tell whether it changed.
content() {
    mount -o ro "${!1}" "disk.$1"
    (cd "disk.$1" && find . -type f "${@:2}" -print0 | sort -z | xargs -0r sha256sum) | sha256sum
    umount "disk.$1"
}

# copy NAME: the same without what phobos itself keeps on the drive.
copy() { content "$1" ! -path './.phobos/*'; }
