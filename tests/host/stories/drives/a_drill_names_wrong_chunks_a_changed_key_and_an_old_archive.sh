# What does not restore is named: chunks that are wrong, whatever their checksums say, a key that was changed, an archive that is old.
#
# shellcheck source=../../drill.sh
. "$HOST/drill.sh"

house "$(shuf -n 1 -e none repokey repokey-blake2 authenticated --random-source=<(yes "$SEED"))" 4; ext
for how in flip forge; do
    mount "$A" disk.A; python3 "$HOST/chunks.py" choose disk.A/borg "$SEED" >chunk; python3 "$HOST/chunks.py" $how disk.A/borg <chunk; umount disk.A
    expect 65 "1 file is not what was archived: backup/holding/luv/photo " ext drill --time 0s; bare; grep -E "(integrity error|checksum mismatch|id verification failed|Authentication failed)" out
    expect 65 "1 file is not what was archived: nas-2026-01-01 itself (" ext drill --full; bare
    # It is tried again before all others, until it restores.
    test $how = flip || expect 65 "1 file is not what was archived: backup/holding/luv/photo " ext drill --time 0s
    mount "$A" disk.A; python3 "$HOST/chunks.py" undo disk.A/borg <chunk; umount disk.A
done

# What was lost on the drive, and replaced by zeros there, is no restored file, though Borg only warns of it.
mount "$A" disk.A; cp -a disk.A/borg sound; python3 "$HOST/chunks.py" choose disk.A/borg "$SEED" >chunk; python3 "$HOST/chunks.py" flip disk.A/borg <chunk
BORG_PASSPHRASE='the passphrase' BORG_CHECK_I_KNOW_WHAT_I_AM_DOING=YES borg check --repair disk.A/borg || true; rm -rf borg-base; umount disk.A
expect 65 "damaged (all-zero) chunks" ext drill --full; bare; expect 65 "damaged (all-zero) chunks" ext drill; bare
mount "$A" disk.A; rm -r disk.A/borg; cp -a sound disk.A/borg; umount disk.A; rm -r sound

# A key that was changed on the drive, and nowhere else.
mount "$A" disk.A; cp disk.A/borg/config config
if grep -q ^key config; then
    BORG_PASSPHRASE='the passphrase' BORG_NEW_PASSPHRASE=new borg key change-passphrase disk.A/borg; rm -rf borg-base; umount disk.A
    expect 65 "the key on the drive A was changed" ext drill; bare; mount "$A" disk.A
fi
cp config disk.A/borg/config; umount disk.A

# Old is what was made longer ago than is said.
(echo '[external]'; echo 'drill-age = "1s"'; cat "$CONFIG") >old.toml
expect 65 "the newest archive of chew, luv on it was made on" phobos-ext --config "$STORY/old.toml" drill --time 0s; bare
expect 0 " files restored from A" ext drill --time 0s
