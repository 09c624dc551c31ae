# Of two hundred files with a flipped bit each one is found and no other; the next mirror mends them, and says that the drive rots.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

SEED=${PHOBOS_SEED:-$RANDOM}; echo "PHOBOS_SEED=$SEED"
verify() { ext verify --json "$@"; }
# found: the damaged files, as verify has said them.
found() { python3 -c 'import json; [print(file["path"]) for file in json.load(open("found"))["damaged"]]' | sort; }
# rots COUNT [PREFIX]: bits of so many files flip; their names are in `rotten`.
rots() {
    mount -o ro "$A" disk.A; python3 "$HOST/rot.py" choose disk.A "$1" "$SEED" "${@:2}" >bits; umount disk.A
    python3 "$HOST/rot.py" flip "$A" <bits; cut -d' ' -f3- bits | sort >rotten; test -s rotten
}
heal() { python3 "$HOST/rot.py" flip "$A" <bits; }

backup_disk; drive A 200; ns
inside sh -c 'sed -i "s/^max_segment_size = .*/max_segment_size = 100000/" /backup/borg/config
    cd /backup/holding/luv; seq 160 | while read -r number; do head -c $((number * 50 + 1)) /dev/urandom >"a photo $number"; done
    mkdir "$(printf "odd\nname \\\\ \377")"; echo x >"$(printf "odd\nname \\\\ \377")/x"'
inside borg create --compression none /backup/borg::two /backup/holding
expect 65 "no mirror has been made to the drive A yet" ext verify; safe A
ext; verify --all >found; test -z "$(found)"; safe A
# What phobos lists is what xxhsum checks; older ones know no escaped names.
require xxhsum
mount -o ro "$A" disk.A; (cd disk.A; cat .phobos/checksums/*) >lists; wc -l lists; grep -c '^[\]XXH3 (' lists
(cd disk.A; grep -v '^[\]' "$STORY/lists" | xxhsum --quiet -c -); umount disk.A

rots 200; wc -l rotten
expect 65 "the drive A is damaged, in " sh -c "phobos-ext --config $CONFIG verify --json --all >found"
diff rotten <(found); safe A
# No mirror that does not know of it would find it; this one does, mends all of it, and tells.
ext >out 2>&1 || { cat out; exit 1; }; cat out; grep "the drive A rots: 2.. damaged files were found on it" out || grep "the drive A rots: 1.. damaged files were found on it" out
verify --all >found; test -z "$(found)"; sound A
ext drives | tr '\n' ' ' | grep "the drive A rots"

# What a mirror itself finds, it mends as well.
rots 5; ext; verify --all >found; test -z "$(found)"; sound A
rots 1 borg/config; ext; verify --all >found; test -z "$(found)"; sound A
mount "$A" disk.A; rm disk.A/borg/config disk.A/borg/README disk.A/borg/index.* disk.A/holding/luv/photo; umount disk.A
expect 65 "borg/config (cannot open" ext verify --all
ext; verify --all >found; test -z "$(found)"; sound A

# A source that has the same damage mends nothing.
inside sh -c 'cp -p /backup/holding/luv/photo /run/photo; printf x | dd of=/backup/holding/luv/photo conv=notrunc; touch -r /run/photo /backup/holding/luv/photo'
rots 1 holding/luv/photo; expect 65 "luv/photo is damaged on the drive, and the source's is not what it was either" ext; safe A
inside sh -c 'cp -p /run/photo /backup/holding/luv/photo'; ext; verify --all >found; test -z "$(found)"

# What phobos itself keeps: each file, one after the other, but few of those that are many.
inside borg create /backup/borg::three /etc/hostname; inside borg delete /backup/borg::two; inside borg compact --threshold 0 /backup/borg; ext
mount -o ro "$A" disk.A; (cd disk.A; find .phobos -type f -links 1 -size +0 | sort) >all; umount disk.A; cat all
for some in '/config/' '/generation/.*/data/'; do grep "$some" all | shuf -n 2 --random-source=<(yes "$SEED"); done >own
grep -v '/config/\|/generation/.*/data/' all >>own
grep 'generation.*/data/' own; grep 'generation.*index' own
while read -r file; do
    rots 1 "$file"
    expect 65 "the drive A is damaged, in " sh -c "phobos-ext --config $CONFIG verify --json --all >found" </dev/null
    diff rotten <(found); heal
done <own
verify --all >found; test -z "$(found)"

# Both records are written with every mirror: one that is lost takes no person to be made anew.
for record in drive run; do
    mount "$A" disk.A; head -c 300 /dev/zero >disk.A/.phobos/$record.json; umount disk.A
    expect 0 ".phobos/$record.json on the drive is damaged" ext; verify --all >found; test -z "$(found)"; sound A
done
