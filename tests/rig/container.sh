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
# Hardware that a container has not got.
rm "$root/etc/fstab" "$root/etc/modules-load.d/rig.conf"
# Not registered anywhere: this machine may have no systemd of its own.
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
systemd-nspawn --quiet --register=no --keep-unit --private-network --link-journal=no --resolv-conf=off --timezone=off \
    --machine="$name" --hostname=phobos --directory="$root" --boot </dev/null
