#!/bin/sh
# Runs inside the new machine's root folder (chroot) while the image is built: everything that needs no running system.
set -eu
useradd --create-home --shell /bin/bash owner
mkdir -p /backup /extbackup /etc/phobos/keys /var/log/journal
chmod 700 /etc/phobos/keys
systemctl enable systemd-networkd.service ssh.service >/dev/null
# The clock jumps when a test begins; nothing may take that for the time to tidy up.
for timer in $(cd /usr/lib/systemd/system && ls *.timer); do ln -sf /dev/null "/etc/systemd/system/$timer"; done
for unit in getty@tty1.service systemd-networkd-wait-online.service e2scrub_reap.service \
    ldconfig.service systemd-binfmt.service systemd-journal-catalog-update.service systemd-hwdb-update.service; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done

for generator in systemd-ssh-generator systemd-getty-generator systemd-gpt-auto-generator systemd-tpm2-generator; do
    mkdir -p /etc/systemd/system-generators
    ln -sf /dev/null "/etc/systemd/system-generators/$generator"
done

# Debian makes exim's configuration at every start, which takes half a minute under emulation: once will do.
update-exim4.conf
mkdir -p /etc/systemd/system/exim4.service.d
printf '[Service]\nExecStartPre=\n' > /etc/systemd/system/exim4.service.d/rig.conf

# The backup disk's content: holding spaces as pulled from two hosts, and a repository with a few nights' archives.
seed=/seed
mkdir -p $seed/holding/luv/home/me/photos $seed/holding/luv/etc $seed/holding/chew/srv
i=0
while [ $i -lt 12 ]; do
    head -c 700000 /dev/urandom > $seed/holding/luv/home/me/photos/$i.jpg
    i=$((i + 1))
done
i=0
while [ $i -lt 300 ]; do
    echo "note $i: the quick brown fox jumps over the lazy dog" > $seed/holding/luv/home/me/note-$i.txt
    i=$((i + 1))
done
cp -a /etc/systemd /etc/default $seed/holding/luv/etc/
head -c 3000000 /dev/urandom > $seed/holding/chew/srv/disk.img
ln $seed/holding/chew/srv/disk.img $seed/holding/chew/srv/disk-again.img
ln -s disk.img $seed/holding/chew/srv/latest

export BORG_PASSPHRASE=$1 HOME=/root
borg init --encryption=repokey-blake2 $seed/borg
sed -i 's/^max_segment_size = .*/max_segment_size = 2097152/' $seed/borg/config
cd $seed
for night in 1 2 3; do
    head -c 900000 /dev/urandom > holding/luv/home/me/photos/new-$night.jpg
    borg create --compression lz4 "borg::phobos-night-$night" holding
done
borg check borg
rm -rf /root/.cache /root/.config/borg
