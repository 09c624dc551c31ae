#!/bin/sh
# Boots the rig's Debian in a container on this machine's own kernel and processor, and ends with it.
# Arguments: the root file system's image, the tar file of the programs, a folder for what the container writes, and a name
# that no other container has. Runs as root in mount and process namespaces of its own, which take everything along.
set -eu
image=$1 programs=$2 folder=$3 name=$4
# A systemd needs a part of the control groups to itself, also beside other containers.
groups=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET)$(sed -n 's/^0:://p' /proc/self/cgroup)/$name
mkdir "$groups"
echo "$groups" >"$folder/groups"
echo 0 >"$groups/cgroup.procs"
root=$folder/root
mkdir "$folder/image" "$folder/written" "$folder/work" "$root"
# Whoever wants a loop device on this machine takes turns, so that two do not find the same one free.
flock /dev/loop-control mount -o loop,ro,noload "$image" "$folder/image"
mount -t overlay -o "lowerdir=$folder/image,upperdir=$folder/written,workdir=$folder/work" overlay "$root"
tar --extract --file "$programs" --directory "$root"
# A loop device for each disk; the kernel takes it away when the last that has it open is gone, which is the sleep.
for disk in "$folder"/disks/*; do
    loop=$(flock /dev/loop-control losetup --find --show "$disk")
    exec 9<"$loop"
    sleep infinity &
    exec 9<&-
    losetup --detach "$loop"
    echo "${disk##*/} ${loop##*/} $(tr : ' ' <"/sys/block/${loop##*/}/dev")" >>"$folder/loops"
done
# What a container has not got: a disk for its root, and hardware.
sed -i '/^LABEL=root /d' "$root/etc/fstab"
rm "$root/etc/modules-load.d/rig.conf"
# Not registered anywhere: this machine may have no systemd of its own.
# Borg knows a machine by its network card; without one its number is another one each time, and a killed Borg's lock stays.
mkdir -p "$root/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultEnvironment=BORG_HOST_ID=phobos@1\n' >"$root/etc/systemd/system.conf.d/borg.conf"
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
# Whatever the machine allows its services they may do here: Landlock for one is younger than nspawn's list.
export SYSTEMD_SECCOMP=0
systemd-nspawn --quiet --register=no --keep-unit --private-network --link-journal=no --resolv-conf=off --timezone=off \
    --machine="$name" --hostname=phobos --directory="$root" --boot </dev/null
