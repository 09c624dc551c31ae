# What stories have at hand whose disks fail: behind them is a-drive-that-fails, which says what it can be told.
# shellcheck shell=bash
set -o errtrace

# A run by lot is told by its seed; PHOBOS_SEED repeats it.
SEED=${PHOBOS_SEED:-$SRANDOM}; RANDOM=$SEED
echo "PHOBOS_SEED=$SEED"

# lot N: a number from 1 to N, in $drawn, since a subshell would draw the same again and again.
# shellcheck disable=SC2034 # stories use it
lot() { drawn=$(((RANDOM * 32768 + RANDOM) % $1 + 1)); }

# failing NAME MB: a disk as `disk` makes one, which takes orders.
failing() {
    image "$1" "$2"
    mkdir "$1"
    a-drive-that-fails "$1.img" "$1" &
    until [ -e "$1/drive" ]; do kill -0 $!; done
    attach "$1" "$1/drive"
}

# order NAME LINE: what the disk is to do.
order() { echo "$2" >"$1/orders"; }

# told NAME WORD: what the disk says of it.
told() { tr ' ' '\n' <"$1/told" | sed -n "/^$2\$/{n;p}"; }

# looks FILE COMMAND…: the command, while what the file has in it is mounted on disk.cut; the file is gone then.
looks() {
    mount -o loop "$1" disk.cut
    "${@:2}"
    umount disk.cut
    rm "$1"
}
