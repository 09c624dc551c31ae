#!/bin/sh
# Runs in the machine once it has booted, before its state is saved: makes a LUKS drive ready as the owner does,
# with a key file, an ordinary file system inside, and its label. Arguments: NAME UUID MB.
set -eu
name=$1 uuid=$2
device=/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_rig-$name-0:0
key=/etc/phobos/keys/$name.key
for _ in $(seq 100); do [ -b "$device" ] && break; sleep 0.2; done
umask 077
head -c 64 /dev/urandom > "$key"
chmod 400 "$key"
cryptsetup luksFormat --batch-mode --type luks2 --uuid "$uuid" --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "$device" "$key"
cryptsetup open --type luks2 --key-file "$key" "$device" rig-prepare
mkfs.ext4 -q -m 0 -L extbackup /dev/mapper/rig-prepare
udevadm settle
cryptsetup close rig-prepare
cryptsetup luksHeaderBackup "$device" --header-backup-file "/root/$name.header"
sync
