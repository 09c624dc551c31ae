# Boots the rig's Debian on this machine's own processor and lets mail.py measure in it; prints what that printed.
# Arguments: the Debian's root file system, the folder of phobos's programs, mail.py, how many rounds, a folder for what it writes.
# Runs as root, in namespaces of its own: they end with it, and what it mounts with them.
set -eu
image=$1 programs=$2 measure=$3 rounds=$4 folder=$5
root=$folder/root
rm -rf "$folder"
mkdir -p "$folder/image" "$folder/written" "$folder/work" "$root"
mount -o loop,ro,noload "$image" "$folder/image"
mount -t overlay -o "lowerdir=$folder/image,upperdir=$folder/written,workdir=$folder/work" overlay "$root"
cp "$programs"/phobos-mail "$programs"/phobos-blink "$root/usr/local/bin/"
cp "$measure" "$root/root/mail.py"
cat >"$root/etc/systemd/system/measure.service" <<END
[Unit]
After=exim4.service ssh.service systemd-logind.service systemd-networkd.service
SuccessAction=poweroff
FailureAction=poweroff
[Service]
Type=oneshot
TimeoutStartSec=120
ExecStart=/usr/bin/python3 /root/mail.py $rounds
StandardOutput=truncate:/root/rounds
StandardError=truncate:/root/errors
END
ln -s ../measure.service "$root/etc/systemd/system/multi-user.target.wants/"
# Not registered anywhere: this machine may have no systemd of its own.
SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout 180 systemd-nspawn --quiet --register=no --keep-unit --private-network --boot \
    --directory="$root" </dev/null >"$folder/console" 2>&1 || { tail -20 "$folder/console" >&2; exit 1; }
cat "$root/root/errors" >&2
cat "$root/root/rounds"
