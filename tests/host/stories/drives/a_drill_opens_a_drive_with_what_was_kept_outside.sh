# After a fire there is a drive, a passphrase on paper and a key on a stick: a drill with these says whether they will do.
#
# shellcheck source=../../drill.sh
. "$HOST/drill.sh"

house repokey-blake2 4; ext --drive A; safe A
key=$CREDENTIALS_DIRECTORY/borg-key
export_key() { inside env BORG_BASE_DIR="$STORY/kept" BORG_PASSPHRASE='the passphrase' borg key export "$@"; rm -rf borg-base; }
recovers() { ext drill --recovery "$@"; }

# The key is in the repository: the drive's own is used, and what was exported has to be that one.
expect 0 "is not encrypted, and has no recovery passphrase" recovers --json; bare
export_key /backup/borg "$key"
recovers --json >found; test "$(told damaged)" = '[]'; test "$(told files)" = 5; bare
# Of a drive that is not encrypted nobody says that its passphrase opens it.
ext drives >out; never grep 'recovery passphrase' out; ext drives --json | grep '"drilled_recovery": null'
sed -i '1s/[0-9a-f]\{8\}$/00000000/' "$key"
expect 65 "the key that was exported is that of another repository" recovers; bare
export_key --paper /backup/borg "$key"; expect 65 "the credential borg-key is no key" recovers; bare
: >"$key"; expect 65 "the credential borg-key is no key" recovers; bare
export_key /backup/borg "$key"
inside env BORG_BASE_DIR="$STORY/kept" BORG_PASSPHRASE='the passphrase' BORG_NEW_PASSPHRASE='another' borg key change-passphrase /backup/borg
ext --drive A; safe A; printf another >"$CREDENTIALS_DIRECTORY/borg-passphrase"
expect 65 "the key that was exported is not the one on the drive" recovers; bare
rm "$key"; expect 0 "files restored from A" recovers; bare
printf 'the passphrase' >"$CREDENTIALS_DIRECTORY/borg-passphrase"

# The key is nowhere but where it was exported to.
inside rm -r /backup/borg; drive B 200
inside env BORG_BASE_DIR="$STORY/kept" BORG_PASSPHRASE='the passphrase' borg init -e keyfile-blake2 /backup/borg
inside env BORG_BASE_DIR="$STORY/kept" BORG_PASSPHRASE='the passphrase' borg create /backup/borg::nas-2026-02-01 /backup/holding
ext --drive B; safe B
expect 65 "is kept elsewhere; with --recovery it can be given as the systemd credential borg-key" ext drill B; safe B
expect 65 "is kept elsewhere" recovers B; safe B
export_key /backup/borg "$key"; rm -rf kept
recovers B --json >found; test "$(told damaged)" = '[]'; test "$(told files)" = 5; safe B
printf 'another' >"$CREDENTIALS_DIRECTORY/borg-passphrase"; expect 65 "the passphrase that was given does not open" recovers B; safe B
