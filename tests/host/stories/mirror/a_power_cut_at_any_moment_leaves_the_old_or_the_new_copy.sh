# All that a mirror has the drive write is recorded. After a flush the drive has everything that came before it, and any part of what
# comes then: so a power cut leaves one of these states. In each the repository is, bit for bit, the old one or the new one, and the
# next run makes it the new one. Every flush is looked at; each tenth, from one by lot on, also with parts of what comes then, and
# with PHOBOS_LONG each. The drive has ext4, or by lot another file system; with PHOBOS_LONG it is three drives.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"
# shellcheck source=../../failing.sh
. "$HOST/failing.sh"

backup_disk; ns; mkdir disk.cut
image() {
    truncate -s "$2M" "$1.img"
    case $1 in
        bdisk | A) mkfs.ext4 -q -F -b 4096 -E lazy_itable_init=0,lazy_journal_init=0 "$1.img" ;;
        B) mkfs.xfs -q "$1.img" ;;
        C) mkfs.btrfs -q "$1.img" ;;
    esac
}
repository() { find "$1/borg" -type f ! -name 'lock.*' -printf '%P\n' | sort | (cd "$1/borg" && xargs sha256sum) | sha256sum; }
of_drive() { mount "${!drive}" "disk.$drive"; repository "disk.$drive"; umount "disk.$drive"; }

# Whether the cut has the old copy or the new one.
one_or_other() {
    local found; found=$(repository disk.cut || true)
    if [ "$found" = "$old" ]; then is_old=$((is_old + 1)); elif [ "$found" = "$new" ]; then is_new=$((is_new + 1)); else
        echo "story: the cut $cut of $drive has neither the old nor the new repository"; ls -lR disk.cut; exit 1
    fi
}

# after CUT: borg finds nothing wrong with it, and the next run ends well.
after() {
    local cut; attach cut "$drive/cut.$1"
    # Borg remembers the newest state that it has seen of a repository.
    rm -rf elsewhere; sound cut
    sed "s|device = \"${!drive}\"|device = \"$cut\"|" "$CONFIG" >"$STORY/cut.toml"
    expect 0 finished phobos-ext --config "$STORY/cut.toml" --drive "$drive"; safe cut; sound cut
    mount "$cut" disk.cut; test "$(repository disk.cut)" = "$new"; cmp disk.cut/holding/luv/film <(inside cat /backup/holding/luv/film)
    never test -e disk.cut/.phobos/run.json; umount disk.cut; free "$cut"; rm "$drive/cut.$1"
}

# cut_off DRIVE: the drive gets the old copy, and then the new one, and what was recorded of that is looked at.
cut_off() {
    drive=$1
    inside borg create /backup/borg::two /etc/hostname; ext --drive "$drive"; old=$(of_drive)
    inside borg delete /backup/borg::two; inside sh -c 'head -c 6000000 /dev/urandom >/backup/holding/luv/film'
    inside borg create --compression none "/backup/borg::of-$drive" /backup/holding; inside borg compact --threshold 1 /backup/borg
    order "$drive" record; expect 0 finished ext --drive "$drive"; safe "$drive"; flushes=$(told "$drive" flush)
    new=$(of_drive); test "$old" != "$new"
    inside sh -c 'find /backup/borg -type f ! -name "lock.*" -printf "%P\n" | sort | (cd /backup/borg && xargs sha256sum) | sha256sum' | grep -xF "$new"

    lot 10; from=$drawn step=10 parts=3
    if [ "$PHOBOS_LONG" ]; then from=1 step=1 parts=10; fi
    cuts=$(seq 0 "$flushes")
    for flush in $(seq "$from" "$step" "$flushes"); do
        for _ in $(seq $parts); do lot 1000000; cuts="$cuts $flush.$drawn"; done
    done
    echo "$flushes flushes of $drive; looked at: ${cuts//$'\n'/ }"; test "$flushes" -ge 20
    is_old=0 is_new=0
    for cut in $cuts; do looks "$drive/cut.$cut" one_or_other; done
    echo "$is_old old, $is_new new"; test $is_old -ge 1; test $is_new -ge 1

    lot 1000000; seed=$drawn; lot $((flushes - 1)); runs="$drawn.$seed"
    if [ "$PHOBOS_LONG" ]; then for flush in $(seq 0 "$flushes"); do lot 1000000; runs="$runs $flush.$drawn"; done; fi
    for cut in $runs; do echo "the run after $cut"; after "$cut"; done
}

lot 4; drives=$(echo A A B C | cut -d ' ' -f "$drawn")
if [ "$PHOBOS_LONG" ]; then drives="A B C"; fi
for name in $drives; do drive "$name" 320 failing; done
for name in $drives; do cut_off "$name"; done
