# Fifty faults, each at a moment by lot: at a request of the drive or of the backup disk, which wait until it has happened. After each the
# drive has the old repository or the new one, bit for bit, and only with the new one, and all the rest, has a run ended with 0 or the
# light become green; and when the fault is over, the next run ends well. A sample is tried; with PHOBOS_LONG, each of them.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"
# shellcheck source=../../failing.sh
. "$HOST/failing.sh"

# Both sides as they are before each fault.
EXT4='-E lazy_itable_init=0,lazy_journal_init=0 -b 4096 -e remount-ro'; backup_disk failing; drive A 60 failing; mkdir disk.cut
ns; inside borg create /backup/borg::two /etc/hostname; inside sh -c 'cd /backup/holding/luv; seq 30000 >list; echo note >note'
ext
# What has to be the same: the repository, and all the rest.
repository() { (cd "$1/borg" && find . -type f ! -name 'lock.*' | sort | xargs sha256sum) | sha256sum; }
others() { (cd "$1" && { find holding -printf "%p %y %m %T@\n" | sort; find holding -type f | sort | xargs sha256sum; }) | sha256sum; }
mount "$A" disk.A; old=$(repository disk.A); umount disk.A
inside borg delete /backup/borg::two
inside sh -c 'cd /backup/holding/luv; head -c 2000000 /dev/urandom >film; seq 7 20000 >list; rm note; mkdir album; cp list album'
inside borg create --compression none /backup/borg::three /backup/holding; inside borg compact --threshold 1 /backup/borg
ns remove; mount "$bdisk" disk.bdisk; new=$(repository disk.bdisk); rest=$(others disk.bdisk); umount disk.bdisk
test "$old" != "$new"; order A mark; order bdisk mark

light() { phobos-blink jobs --json | tr -d ' \n' | sed -n 's/.*"name":"ext-A","state":"\([a-z]*\)".*/\1/p'; }
begin() { order A reset; order bdisk reset; rm -rf /run/phobos/led /var/lib/phobos/led; order A count; order bdisk count; }
start() { phobos-ext --config "$CONFIG" >out 2>&1 & run=$!; }
runs() { kill -0 "$run" 2>/dev/null; }
held() { grep -q 'held yes' "$side/told"; }
until_held() { while runs && ! held; do sleep 0.005; done; held; }
# moment: a run, until the moment has come; on: one request later; both fail where the run is over.
moment() { order "$side" "hold any $number"; start; until_held; }
on() { order "$side" step; until_held; }
# lets go on until there is a process of that name, which is $found; mounted PLACE: until something is mounted there.
running() { until found=$(pgrep -o -x "$1"); do on || return 1; done; }
mounted() { until inside mountpoint -q "$1"; do on || return 1; done; }
met() { echo "met at $side any $(($(told "$side" any) + 1))"; }
instead() { printf '#!/bin/bash\n%s\n' "$2" >"fake-$1"; chmod 755 "fake-$1"; mount --bind "fake-$1" "$(command -v "$1")"; }
cp "$(command -v rsync)" real-rsync; cp "$(command -v borg)" real-borg

# The faults. Each starts the run.
signal() { if moment && running "$2"; then met; kill "-$1" "$found"; fi; }
paused() { if moment && running "$1"; then met; kill -STOP "$found"; (sleep 0.5; kill -CONT "$found") & helper=$!; fi; }
stopped() { if moment && running "$1"; then met; kill -STOP "$found"; kill -TERM "$run"; fi; }
disk() { order "$side" "$1 $2 $number ${*:3}"; start; }
# What is done may need the disk: it is not held any more then.
inside_when() { if moment && mounted "$1"; then met; inside sh -c "$2" & helper=$!; fi; }
lies() { instead "$1" "$2"; start; }

faults=(
    "A any signal KILL phobos-ext" "A any signal KILL phobos-ext" "bdisk any signal KILL phobos-ext"
    "A any signal TERM phobos-ext" "bdisk any signal TERM phobos-ext"
    "bdisk any signal KILL rsync" "A any signal KILL rsync" "bdisk any signal KILL borg" "A any signal KILL borg"
    "bdisk any signal TERM rsync" "bdisk any signal TERM borg"
    "bdisk any paused rsync" "bdisk any paused borg" "A any paused borg"
    "A write disk fail write EIO" "A write disk fail write EIO" "A write disk fail write EIO ever" "A write disk fail write EIO ever"
    "A read disk fail read EIO" "A read disk fail read EIO ever" "A flush disk fail flush EIO" "A flush disk fail flush EIO ever"
    "A any disk fail any EIO ever" "A any disk fail any EIO ever"
    "A write disk fail write ENOSPC" "A write disk fail write ENOSPC ever" "A write disk fail write EROFS ever"
    "A any inside_when /extbackup 'fallocate -l 1G /extbackup/filler || dd if=/dev/zero of=/extbackup/filler bs=64k'"
    "A any inside_when /extbackup 'for _ in 1 2 3 4 5; do mount -o remount,ro /extbackup || sleep 0.01; done'"
    "A any inside_when /extbackup 'echo 1 >/sys/fs/ext4/${A#/dev/}/trigger_fs_error'"
    "bdisk read disk fail read EIO" "bdisk read disk fail read EIO ever" "bdisk any disk fail any EIO ever"
    "bdisk write disk fail write EIO ever"
    "bdisk any inside_when /backup 'for _ in 1 2 3 4 5; do mount -o remount,ro /backup || sleep 0.01; done'"
    "A any inside_when /extbackup 'umount -l /extbackup'" "A any inside_when /backup 'umount -l /backup'"
    "A any inside_when /extbackup 'mount -t tmpfs tmpfs /extbackup'" "bdisk any inside_when /backup 'mount -t tmpfs tmpfs /backup'"
    "A any inside_when /extbackup 'mount -t tmpfs tmpfs /extbackup/holding'"
    "bdisk any inside_when /backup 'mount -t tmpfs tmpfs /backup/holding'" "bdisk any inside_when /backup 'mount -t tmpfs tmpfs /backup/borg/data'"
    "bdisk any inside_when /backup 'mv /backup/borg /backup/moved'" "A any inside_when /backup 'mv /backup/borg /backup/moved; mkdir /backup/borg'"
    "bdisk any inside_when /backup 'mv /backup/holding/luv /backup/moved'"
    "bdisk any inside_when /backup 'rm /backup/borg/lock.roster'"
    "A any lies rsync 'exit 0'" "A any lies rsync '$STORY/real-rsync \"\$@\"; c=\$?; rm -f /extbackup/holding/luv/film; exit \$c'"
    "A any lies rsync '$STORY/real-rsync \"\$@\"; c=\$?; t=\$(stat -c %y /extbackup/holding/luv/list); printf x | dd of=/extbackup/holding/luv/list conv=notrunc seek=9 bs=1; touch -d \"\$t\" /extbackup/holding/luv/list; exit \$c'"
    "A any lies rsync '$STORY/real-rsync \"\$@\"; exit 23'"
    "A any lies borg 'exit 0'" "A any lies borg 'head -c 3000 /dev/urandom; exec cat'"
    "A write disk lose write" "A write disk lose write" "A write disk lose write" "A read disk lose read" "A flush disk lose flush ever"
)
# What is stopped for good is waited for as long as its limit is.
if [ "$PHOBOS_LONG" ]; then faults+=("bdisk any stopped rsync" "bdisk any stopped borg"); fi

# What the drive has: old, new or neither; and whether all the rest is there.
there_is() {
    local found; found=$(repository disk.cut); is=neither all=no
    if [ "$found" = "$old" ]; then is=old; elif [ "$found" = "$new" ]; then is=new; fi
    if [ "$is" = new ] && [ "$(others disk.cut)" = "$rest" ]; then all=yes; fi
    if [ -e disk.cut/.phobos/run.json ] || [ -e disk.cut/.phobos/incoming ]; then left=yes; else left=no; fi
}
# The run that made the old copy is followed by one without a fault, which tells how many moments there are.
begin; start; wait $run; declare -A moments
for side in A bdisk; do for kind in any read write flush; do moments[$side.$kind]=$(told $side $kind); done; cat $side/told; done
looks A/now.good there_is; test "$is.$all.$left" = new.yes.no

# tries FAULT NAME: a run with a fault, what it has left, and the next run.
tries() {
    local fault=$1 kind green=no rest=$rest; side=${fault%% *}; fault=${fault#* }; kind=${fault%% *}; fault=${fault#* }
    lot "${moments[$side.$kind]}"; number=$drawn
    echo "── $2, after $SECONDS s: $side, $kind $number: $fault"
    ns remove; begin; helper=; eval "$fault"
    order "$side" go; if [ "$helper" ]; then wait "$helper" || true; fi
    code=0; wait "$run" || code=$?; cat out; echo "it ended with $code, the light $(light); $(cat "$side/told")"
    order A well; order bdisk well
    for program in rsync borg; do while mountpoint -q "$(command -v $program)"; do umount "$(command -v $program)"; done; done
    # As the unit does.
    ext --drive A close || true
    if [ "$code" = 0 ] || [ "$(light)" = ok ]; then green=yes; fi
    # What is green has lost nothing that keeps the next write away from it either.
    if [ $green = yes ]; then e2fsck -fn "A/now.$2.fsck"; rm "A/now.$2.fsck"; fi
    looks "A/now.$2" there_is; echo "the drive has $is, and all the rest: $all"
    if [ "$is" = neither ] || { [ $green = yes ] && [ "$all" = no ]; }; then echo "story: PHOBOS_SEED=$SEED, $2"; exit 1; fi
    # The disk is put right by somebody.
    inside sh -c 'while mountpoint -q /extbackup; do umount -l /extbackup; done' || true
    # A Borg that was just starting sees a moment later that nobody is there any more.
    for _ in $(seq 300); do if ! inside pgrep -f 'borg serve' >pids; then break; fi; sleep 0.1; done
    if ! ns remove; then inside umount -l -R /backup || true; ns remove; fi
    mount "$bdisk" disk.bdisk
    if [ -e disk.bdisk/moved ]; then
        if [ -e disk.bdisk/holding/luv ]; then rm -rf disk.bdisk/borg; mv disk.bdisk/moved disk.bdisk/borg; else mv disk.bdisk/moved disk.bdisk/holding/luv; fi
    fi
    rest=$(others disk.bdisk); umount disk.bdisk
    if [[ $fault = *filler* ]]; then mount "$A" disk.A; rm -f disk.A/filler; umount disk.A; fi
    code=0; ext >out 2>&1 || code=$?; cat out
    if [ $green = yes ]; then test $code = 0; fi
    if [ $code != 0 ] && grep -q "check it with .e2fsck" out; then
        e2fsck -fy "$A" || test $? -lt 4; code=0; ext >out 2>&1 || code=$?; cat out
    elif [ $code != 0 ] && [[ $fault = *lose* ]]; then
        # What a drive loses without a word may be any of its folders; that it is so is fsck's to say.
        fsck=0; e2fsck -fy "$A" || fsck=$?; test $fsck -gt 0; test $fsck -lt 4; code=0; ext >out 2>&1 || code=$?; cat out
    fi
    test $code = 0; test "$(light)" = ok; safe A
    looks "A/now.$2.next" there_is; test "$is.$all.$left" = new.yes.no
}
count=0
for fault in "${faults[@]}"; do
    count=$((count + 1)); lot "${#faults[@]}"
    if [ "$PHOBOS_LONG" ] || [ "$drawn" -le 10 ]; then tries "$fault" $count; fi
done
sound A
