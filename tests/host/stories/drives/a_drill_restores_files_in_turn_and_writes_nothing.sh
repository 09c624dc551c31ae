# A drill restores some files of each host and compares them; what was written here since is no failure, and the drive is only read.
#
# shellcheck source=../../drill.sh
. "$HOST/drill.sh"

house repokey-blake2 6
inside sh -c 'cd /backup/holding/luv; mkdir "$(printf "odd\nname \\\\ \377")"; echo x >"$(printf "odd\nname \\\\ \377")/pf:x"; : >empty
    ln "photo 1" "photo one"; ln -s "photo 2" link; cd /backup; BORG_PASSPHRASE="the passphrase" borg create borg::nas-2026-01-02 holding'
rm -rf borg-base
expect 65 "no mirror has been made to the drive A yet" ext drill; bare
ext

before=$(sha256sum <"$A")
drill >found; cat found; test "$(told damaged)" = "[]"; test "$(told changed)" = 0; test "$(told files)" = 9; bare
grep '"archive": "nas-2026-01-02"' found; test "$before" = "$(sha256sum <"$A")"
ext drives | tr '\n' ' ' | grep "last drill .* 9 files were restored from it"; ext drives --json | grep '"drilled": "20'
# However short the time, each goes on where the last one ended, until all had their turn.
inside sh -c 'cd /backup/holding/luv; echo more >>"photo 3"; rm "photo 4"'
changed=0
for files in 5 5; do drill --time 0s >found; test "$(told files)" = $files; changed=$((changed + $(told changed))); bare; done
test $changed = 2

# A drive that is away is a failure only for somebody who has asked for it.
sed "s|$A|/dev/none|" "$CONFIG" >away.toml
expect 0 "no drive is plugged in" phobos-ext --config away.toml drill --if-here; expect 66 "no drive is plugged in" phobos-ext --config away.toml drill

# All of it, to nowhere; in the ledger it stands beside the samples.
drill --full >found; test "$(told files)" = 9; test "$(told damaged)" = "[]"; bare; ext drives | grep "everything was"
drill --time 0s >found; ext drives | tr -s '\n ' ' ' | grep "restored from it.*; everything was on"
ext drives --json | grep '"drilled_whole": "20'; test "$before" = "$(sha256sum <"$A")"
expect 2 "cannot be used with" ext drill --full --time 1h

# Without a passphrase, or with another one, nothing is said of files.
expect 78 "give it as the systemd credential borg-passphrase" env CREDENTIALS_DIRECTORY="$STORY" phobos-ext --config "$CONFIG" drill; bare
mkdir other; echo another >other/borg-passphrase
expect 65 "the passphrase that was given does not open the key on the drive A" env CREDENTIALS_DIRECTORY="$STORY/other" phobos-ext --config "$CONFIG" drill; bare
ext drives >out; tr '\n' ' ' <out | grep "the drive A did not pass its drill on"
grep -q '"job":"drill".*"exit":65' /var/lib/phobos/history.jsonl; test "$before" = "$(sha256sum <"$A")"
