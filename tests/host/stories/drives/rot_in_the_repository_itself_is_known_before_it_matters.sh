# The repository is read again in slices; a segment that has lost a bit is named each time until it is sound or gone.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

SEED=${PHOBOS_SEED:-$RANDOM}; echo "PHOBOS_SEED=$SEED"
verify() { ext verify --source --json "$@"; }
told() { python3 -c 'import json, sys; print(json.load(open("found"))[sys.argv[1]])' "$1"; }

backup_disk; drive A; ns
inside sh -c 'sed -i "s/^max_segment_size = .*/max_segment_size = 100000/" /backup/borg/config; head -c 3000000 /dev/urandom >/backup/holding/luv/more'
inside borg create --compression none /backup/borg::two /backup/holding
verify --all >found; test "$(told whole)" = True; segments=$(told files); test "$segments" -gt 5
# However short the time is, each go reads on, and the last one comes to the end.
goes=0; until verify --time 0s >found; [ "$(told whole)" = True ]; do test "$(told files)" = 1; goes=$((goes + 1)); test $goes -le "$segments"; done
test $goes -ge $((segments - 1)); ext verify --source | grep "all of it was read since"

# damaged COMMAND: runs it where the disk with the repository is mounted, and makes the namespace anew.
damaged() { inside umount /backup; "$@"; ns remove; ns; }
rots() {
    mount -o ro "$bdisk" disk.bdisk; python3 "$HOST/rot.py" choose disk.bdisk 1 "$SEED" "$1" >bits; umount disk.bdisk
    rotten=$(cut -d' ' -f3- bits); test -n "$rotten"; flip
}
flip() { python3 "$HOST/rot.py" flip "$bdisk" <bits; }

# One of them by lot, and the last one, in which the last transaction ended: each is named, and nothing else is.
last=borg/data/0/$(inside ls /backup/borg/data/0 | sort -n | tail -1)
for segments in borg/data/0/1 "$last"; do
    damaged rots "$segments"
    expect 65 "the repository is damaged: $rotten (" ext verify --source --all; safe A
    # It is looked at first the next time, wherever the round is.
    expect 65 "the repository is damaged: $rotten (" ext verify --source --time 0s
    grep -q '"exit":65' /var/lib/phobos/history.jsonl
    damaged flip; verify --time 0s >found; test "$(told damaged)" = "[]"
done
# One that is not there at all.
inside mv "/backup/$last" /backup/aside; expect 65 "the repository is damaged: $last (it is missing)" ext verify --source
inside mv /backup/aside "/backup/$last"; verify --all >found; test "$(told damaged)" = "[]"

inside mkdir /backup/borg/lock.exclusive; expect 75 "somebody else's Borg is at work in the repository" ext verify --source
inside rmdir /backup/borg/lock.exclusive; ext verify --source
