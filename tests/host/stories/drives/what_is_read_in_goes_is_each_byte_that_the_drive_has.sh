# Goes of a moment, in which a large file is read in parts, read on from each other until there is an end, and by the disk's own count that was everything.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A 400; ns
inside sh -c 'sed -i "s/^max_segment_size = .*/max_segment_size = 3000000/" /backup/borg/config
    head -c 70000000 /dev/urandom >/backup/holding/luv/film; cd /backup/holding/luv; for number in 1 2 3 4; do echo $number >note-$number; done'
inside borg create --compression none /backup/borg::two /backup/holding
ext; safe A
# sectors: what the disk has read until now, in units of 512 bytes (the kernel's Documentation/block/stat.rst).
sectors() { awk '{ print $3 }' "/sys/block/${A#/dev/}/stat"; }
whole() { python3 -c 'import json; print(json.load(open("found"))["whole"])'; }
# A first mirror is a round by itself.
ext verify --all --json >found; test "$(whole)" = True

mount -o ro "$A" disk.A; bytes=$(cd disk.A; find . -type f -not -path './lost+found/*' -printf '%s\n' | awk '{ all += $1 } END { print all }')
umount disk.A; before=$(sectors); goes=0
until ext verify --time 20ms --json >found; test "$(whole)" = True; do goes=$((goes + 1)); test $goes -lt 200; done
read=$((($(sectors) - before) * 512)); echo "$goes goes read $read bytes of a drive that has $bytes"
test $goes -ge 3; test $read -ge "$bytes"
python3 -c 'import json, sys; found = json.load(open("found")); assert found["round_visits"] == int(sys.argv[1]) + 1 and found["round_bytes"] >= int(sys.argv[2]), found' $goes "$bytes"
safe A; ext drives | tr -s '\n ' ' ' | grep -i "read again"
# With a bit flipped in the middle of the film, the round finds it in one of its goes.
mount -o ro "$A" disk.A; python3 "$HOST/rot.py" choose disk.A 1 7 holding/luv/film >bits; umount disk.A; python3 "$HOST/rot.py" flip "$A" <bits
bad=0; for _ in $(seq 200); do ext verify --time 20ms --json >found || bad=$((bad + 1)); if [ "$(whole)" = True ]; then break; fi; done
test "$(whole)" = True; test $bad = 1; safe A
