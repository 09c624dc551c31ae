# The backup disk is gone, or has what nobody wants any more: a drive gives files back as well, and is closed again whatever happens.
#
# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv; drive A 200
awkward luv/home; devices luv/home
pull luv 2>/dev/null; pull luv 2>/dev/null; ext --drive A; safe A
from() { pull restore luv --from drive A "$@"; }

# What the client had then, and not what it has now.
cp -a luv/home past; rm -r luv/home/jon; pull luv 2>/dev/null; pull restore luv /home --list >out; never grep jon out
mkdir back; expect 0 "luv: gave back " from /home --to back --privileged; safe A
tree past >is; tree back/home >was; diff -a is was | head; cmp is was; grep -F "disk 7:c8" was
(mkdir here; cd here; pull restore luv /home/jon/one --from drive A; cmp one ../past/jon/one); safe A
from --list /home/jon >out; grep -E '^-rws.* 4711 +4712 .* one$' out; safe A
from /home/jon/one --to here -n | grep 'there already'; safe A
# A word that needs no second one leaves that to be a path.
mkdir kept; expect 0 "gave back" pull restore luv --from holding /home/sparse --to kept; cmp kept/sparse past/sparse
expect 2 "say holding, archive NAME or drive NAME" pull restore luv --from tape /home
expect 2 "name the drive" pull restore luv /home --from drive; expect 2 "say what is to be given back" from
expect 2 "cannot be used multiple times" pull restore luv --from holding /home --from holding /srv

# What is not there, or in use.
expect 66 "luv has no /home/jim in its holding space on the drive A" from /home/jim --to kept; safe A
expect 78 'no drive "B" is configured' pull restore luv /home --from drive B --to kept
echo 'source = ["root@luv:/srv/"]' >pull.d/new.toml; expect 66 "new has no holding space on the drive A" pull restore new / --from drive A --to kept; safe A
ns exec --job other --lock drive/A -- sh -c ': >held; until [ -e over ]; do sleep 0.05; done' &
until [ -e "$STORY/held" ] || [ -e held ]; do kill -0 $!; sleep 0.05; done
expect 75 "drive/A" from /home --to kept; touch over; wait $!
# What a person has opened a person closes.
ext open A; expect 0 "gave back" from /home/jon --to kept; inside test -e /run/phobos/open/A/borg/config; ext close A; safe A
# What a drive has in the place of its spaces leads nowhere on this machine.
mkdir -p own/luv/home; echo secret >own/luv/home/secret; mount "$A" disk.A; mv disk.A/holding disk.A/aside
for place in holding holding/luv; do
    rm -rf disk.A/holding; if [ $place = holding/luv ]; then mkdir disk.A/holding; fi
    ln -s "$STORY/own${place#holding}" disk.A/$place; umount disk.A
    expect 65 "is a symbolic link, not a folder" from /home/secret --to kept; test ! -e kept/secret; safe A; mount "$A" disk.A
done
rm -r disk.A/holding; mv disk.A/aside disk.A/holding; umount disk.A
# Neither is anything written to it, nor is it left open by one that is stopped; what one that is killed leaves the next one closes.
before=$(sha256sum <"$A"); RANDOM=${PHOBOS_SEED:-$$}
for signal in TERM TERM KILL KILL; do
    phobos-pull --config "$CONFIG" restore luv /home --from drive A --to kept >out 2>&1 & job=$!
    sleep 0.$((RANDOM % 4))$((RANDOM % 10)); kill -$signal $job 2>/dev/null || true; code=0; wait $job || code=$?
    if [ $signal = TERM ]; then safe A; case $code in 0 | 143) ;; *) cat out; exit 1 ;; esac; fi
done
# What one has started to open the drive lives on after it.
ended -f 'phobos-ext.* (open|close) '
rm -r kept/home kept/jon 2>/dev/null || true; expect 0 "gave back" from /home/jon --to kept
expect 0 "safe to unplug" ext close A; safe A; test "$before" = "$(sha256sum <"$A")"
