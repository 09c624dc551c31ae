# The doctor says what is set up wrongly and how to mend it; once that is done, it says so.
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

status() { phobos-status --config "$CONFIG" "$@"; }
wrong() { local code=0; status doctor "$@" >told || code=$?; cat told; test $code = 1; awk 'length($0) > 80 { exit 1 }' told; }
right() { status doctor "$@" >told; cat told; never grep -e '->' told; }
disk bdisk 100
echo "$bdisk /backup ext4 noatime 0 0" >>fstab
mkdir keys; head -c 64 /dev/urandom >keys/A; chmod 644 keys/A
printf '[[external.drive]]\nname = "A"\nuuid = "11111111-2222-3333-4444-555555555555"\nkey-file = "%s"\n' "$STORY/keys/A" >>"$CONFIG"
mount /backup
wrong hidden; grep '^hidden     /backup is mounted where everybody sees it' told; grep 'umount /backup' told
umount /backup; right hidden
wrong fstab; grep '/backup is mounted at boot' told; grep 'fstab has no entry for /extbackup' told
echo "$bdisk /backup ext4 noatime,noauto 0 0
LABEL=extbackup /extbackup ext4 noauto 0 0" >fstab; right fstab
wrong namespace; grep 'systemctl enable --now phobos-ns.service' told
ns; right namespace
# One that was made by hand is deaf to what the host mounts, or has the host follow it.
ns remove
for how in private shared; do
    : >$NS; PROPAGATION=$how keep $NS true
    wrong namespace; grep " $how " told; grep 'phobos-ns remove' told
    umount $NS
done
: >$NS; keep $NS true; right namespace; umount $NS; ns; right namespace
wrong keys; grep "chmod 0400 $STORY/keys/A" <(tr -d '\n' <told | tr -s ' ')
chmod 400 keys/A; right keys
# A key that can write on a host, lent and forgotten.
touch keys/restore-luv keys/restore-luv.pub; right restore
touch -d '3 days ago' keys/restore-luv; wrong restore; grep 'can write on luv' told; rm keys/restore-luv*; right restore
# What holds another machine's key to a folder here.
mkdir -p home/.ssh; sed "s|:/root:|:$STORY/home:|" /etc/passwd >passwd; mount --bind passwd /etc/passwd
echo "restrict,command=\"$STORY/rrsync -ro /home\" ssh-ed25519 AAAA other@nas" >home/.ssh/authorized_keys
echo '#!/usr/bin/env perl' >rrsync; chmod 755 rrsync; wrong rrsync; grep 'rsync 3.2.3' <(tr -s ' \n' ' ' <told)
echo '#!/usr/bin/python3' >rrsync; wrong rrsync; grep 'CVE-2026-53783' told
sed -i 's|-ro /home|-ro /|' home/.ssh/authorized_keys; right rrsync; umount /etc/passwd; rm rrsync
header=headers/A-11111111-2222-3333-4444-555555555555.header
wrong headers; mkdir headers; head -c 4096 /dev/zero >$header; wrong headers; grep 'is no header of the drive A' <(tr -s ' \n' ' ' <told)
truncate -s 20M luks; cryptsetup luksFormat -q --pbkdf=pbkdf2 --pbkdf-force-iterations=1000 --uuid=11111111-2222-3333-4444-555555555555 luks keys/A
rm $header; cryptsetup luksHeaderBackup luks --header-backup-file $header; right headers
# One way into it, and on no sheet; and a disk that says that it fails, of the backups.
wrong recovery; grep 'nothing but its key file' told; grep 'no recovery sheet' told
echo words >words; cryptsetup luksAddKey -q --pbkdf=pbkdf2 --pbkdf-force-iterations=1000 --key-file keys/A luks words
rm $header; cryptsetup luksHeaderBackup luks --header-backup-file $header
echo '{"schema_version": 1, "drives": {"A": {"sheet": "2026-01-01T00:00:00Z"}}}' >/var/lib/phobos/drives.json; right recovery
smart() { printf '#!/bin/sh\necho %s\nexit %s\n' "'{\"smart_status\":{\"passed\":$1}}'" "$2" >smartctl; chmod 755 smartctl; }
smart false 8; wrong health; grep 'the disk of the backups fails' told; smart true 0; right health
rm smartctl; status doctor health | grep 'cannot be told here'
# A test message is sent where that is asked for, and nowhere else.
printf '[mail]\ntransport = "smtp://127.0.0.1:9"\n' >>"$CONFIG"; export PHOBOS_MAIL_OWN=$STORY/spool PHOBOS_MAIL_UNITS=$STORY/none
status doctor mail | grep '^mail *ok'; status doctor >told || true; grep '^mailer *cannot be told' told; test ! -e spool
wrong mailer; grep 'a test message did not leave' told; sed -i '/^.mail/,$d' "$CONFIG"
phobos-ns --config "$CONFIG" exec -- mkdir -p /backup/holding/gone
wrong spaces; grep 'the holding space gone is of no host' told
mkdir pull.d; echo 'source = ["/srv/"]' >pull.d/gone.toml; right spaces
echo 'sauce = 1' >>pull.d/gone.toml
wrong config; grep 'gone.toml:2' told
# All mistakes at once, each with its file and line.
printf '[mail]\nport = 3\n' >>"$CONFIG"
expect 78 "$CONFIG:8: port: unknown field" status config; grep "$STORY/pull.d/gone.toml:2: sauce" out; test "$(wc -l <out)" = 2
sed -i '/^sauce/d' pull.d/gone.toml; sed -i '/^port/d' "$CONFIG"
status config --show >told; grep -x 'led.device = "none"  *# .*/phobos.toml:2' told; grep -x 'external.notice = false  *# default' told
grep 'pull.gone.source = .*# .*/pull.d/gone.toml:1' told; status config --show --json | grep '"schema_version": 1'
expect 0 'all is well in 2 files' phobos-status config "$CONFIG"; right config
expect 2 'did you mean namespace?' status doctor namspace
status doctor --json hidden fstab | python3 -c '
import json, sys
told = json.load(sys.stdin)
assert told["schema_version"] == 1 and [line["state"] for line in told["checks"]] == ["ok", "ok"], told'
# Whoever is not root is told what cannot be told.
mkdir for-all; mount -t tmpfs tmpfs for-all; cp -L phobos-status for-all; chmod 755 for-all; printf '[led]\n' >for-all/phobos.toml
setpriv --reuid 65534 --clear-groups for-all/phobos-status --config for-all/phobos.toml doctor namespace | grep '^namespace  cannot be told here'
