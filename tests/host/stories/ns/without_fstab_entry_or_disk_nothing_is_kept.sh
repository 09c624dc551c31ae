# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

expect 78 "no entry for /backup in /etc/fstab; add one with the option noauto" ns
test "$(stat -fc %T $NS)" != nsfs
echo "/dev/no-such-disk /backup ext4 noauto 0 0" >fstab
expect 1 "cannot mount /backup in the namespace: \`mount" ns
test "$(stat -fc %T $NS)" != nsfs
