# Whatever happens to a reading of a drive, the drive is closed or closes, and damage that was found is told.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

SEED=${PHOBOS_SEED:-$RANDOM}; echo "PHOBOS_SEED=$SEED"; RANDOM=$SEED
backup_disk; drive A; ns; ext; safe A
(umask 077; ext verify --all); test "$(stat -c %a /var/lib/phobos/drives.json)" = 644
ext verify --all >&-; safe A
# Killed at any moment: what is left open is closed by the next one, and the round counts nothing that was not read.
for _ in $(seq 8); do
    phobos-ext --config "$CONFIG" verify --all & reading=$!
    sleep "0.$(printf %03d $((RANDOM % 200)))"; kill -9 $reading 2>/dev/null || true; wait $reading || true
    ext verify --all; safe A
done
# A mount that is under way when its caller is killed comes to nothing, and one that comes in between is done anew.
mkdir bin; printf '#!/bin/sh\n: >"%s/mounting"; sleep 1; exec %s "$@"\n' "$STORY" "$(command -v mount)" >bin/mount; chmod 755 bin/mount
PATH="$STORY/bin:$PATH" phobos-ext --config "$CONFIG" verify --all & reading=$!
until [ -e mounting ]; do kill -0 $reading; sleep 0.02; done; kill -9 $reading; wait $reading || true; ended -f "$STORY/bin/mount"; safe A
printf '#!/bin/sh\n[ -e "%s/twice" ] || %s "$@"; : >"%s/twice"; exec %s "$@"\n' "$STORY" "$(command -v mount)" "$STORY" "$(command -v mount)" >bin/mount
rm -f mounting; PATH="$STORY/bin:$PATH" ext verify --all; test -e twice; safe A
# Somebody else has the drive.
ext open A >place; expect 75 "phobos-ext close A" ext verify; ext close A; safe A
mount -o ro "$A" disk.A; python3 "$HOST/rot.py" choose disk.A 1 "$SEED" holding/luv/photo >bits; umount disk.A; python3 "$HOST/rot.py" flip "$A" <bits
# Where nothing can be written down, damage is told all the same.
mount -o remount,size=64k /var/lib/phobos; head -c 200000 /dev/zero >/var/lib/phobos/filler || true
expect 65 "the drive A is damaged, in 1 file: holding/luv/photo" ext verify --all; safe A
rm /var/lib/phobos/filler; mount -o remount,size=50% /var/lib/phobos
expect 65 "holding/luv/photo" ext verify --all; ext; ext verify --all; safe A
