# More files rot than the ledger keeps names of: a mirror that finds them mends all, and so does one after a reading has found them, even
# with no time to read.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

SEED=${PHOBOS_SEED:-$RANDOM}; echo "PHOBOS_SEED=$SEED"
# rots COUNT: bits of so many files flip; what was written right now would be read back in any case.
rots() {
    mount -o ro "$A" disk.A
    newest=$(find disk.A/holding -type f -printf '%C@\n' | sort -n | tail -1)
    until [ "$(date +%s)" -gt "$((${newest%.*} + 3))" ]; do sleep 0.2; done
    python3 "$HOST/rot.py" choose disk.A "$1" "$SEED" holding >bits; umount disk.A
    python3 "$HOST/rot.py" flip "$A" <bits; test "$(wc -l <bits)" = "$1"
}
# left: how many are damaged.
left() { ext verify --json --all >found || true; python3 -c 'import json; print(len(json.load(open("found"))["damaged"]))'; }

backup_disk; drive A 200; ns
inside sh -c 'cd /backup/holding/luv; seq 700 | while read -r number; do head -c $((number * 3 + 1)) /dev/urandom >"photo$number"; done'
ext

rots 500; expect 0 "damaged on the drive, and copied again" ext; test "$(left)" = 0; sound A
rots 500; test "$(left)" = 500; expect 0 "damaged files were found on it" ext --drive A
test "$(left)" = 0

# However short the time is in which a mirror reads again.
sed -i '1i [external]\nverify-time = "0s"\n' "$CONFIG"
rots 600; test "$(left)" = 600; ext; test "$(left)" = 0; sound A
