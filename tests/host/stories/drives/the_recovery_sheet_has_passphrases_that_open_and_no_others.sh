# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive C
# A drive that is away: all that is here is its header.
uuid=11111111-2222-4333-8444-555555555555
truncate -s 20M A.img; head -c 64 /dev/urandom >A.key
cryptsetup luksFormat --batch-mode --uuid $uuid --pbkdf pbkdf2 --pbkdf-force-iterations 1000 A.img A.key
printf 'zoo zebra zero' | cryptsetup luksAddKey --batch-mode --key-file A.key --pbkdf pbkdf2 --pbkdf-force-iterations 1000 A.img -
mkdir -p headers drives.d; cryptsetup luksHeaderBackup A.img --header-backup-file headers/A-$uuid.header
printf '[[external.drive]]\nname = "A"\ndescription = "blue, with a \\u001b[31m dent"\nuuid = "%s"\nkey-file = "%s"\n' $uuid "$STORY/A.key" >drives.d/A.toml
id=$(ns; inside sed -n 's/^id = //p' /backup/borg/config)

expect 0 "passphrase of A: is kept at ____" ext recovery-sheet </dev/null
grep "repository: $id" out; grep "        cryptsetup open /dev/disk/by-uuid/$uuid extbackup" out; grep "        mount -o ro $C /mnt" out
grep "A: $STORY/headers/A-$uuid.header" out; grep "blue, with a" out; never grep -q "$(printf '\033')" out; never grep "BORG PAPER KEY" out
expect 0 "passphrase of A: zoo zebra zero" ext recovery-sheet --with-passphrases <<<"  Zoo zebra   ZERO"
expect 0 "passphrase of A: is kept at ____" ext recovery-sheet --with-passphrases <<<""
expect 65 "this passphrase does not open the drive A" ext recovery-sheet --with-passphrases <<<"zoo zebra zoo"
expect 2 "standard input has ended before the passphrase of the drive A" ext recovery-sheet --with-passphrases </dev/null
expect 0 "<pre>cryptsetup open /dev/disk/by-uuid/$uuid extbackup" ext recovery-sheet --html --drive A; never grep "mount -o ro $C" out
expect 1 "cannot write to standard output" sh -c 'phobos-ext --config "$0" recovery-sheet >/dev/full' "$CONFIG"
