# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; truncate -s 300M P.img; P=$(losetup --find --show P.img); echo "$P" >>loops
addpart "$P" 1 2048 300000; addpart "$P" 2 302048 300000; name=${P#/dev/}
for i in 1 2; do n=$(cat /sys/class/block/"${name}"p$i/dev); test -b "${P}"p$i || mknod "${P}"p$i b "${n%:*}" "${n#*:}"; mkfs.ext4 -q "${P}"p$i; done
printf '[[external.drive]]\nname = "P"\ndevice = "%sp1"\n' "$P" >>"$CONFIG"
# Two parts of one disk are one drive: what takes the one takes the other.
cp "$CONFIG" one; printf '[[external.drive]]\nname = "Q"\ndevice = "%sp2"\n' "$P" >>"$CONFIG"
twin=0; ext >two 2>&1 || twin=$?; cat two; cat one >"$CONFIG"
mkdir disk.films; mount "${P}p2" disk.films
code=0; ext >out 2>&1 || code=$?; cat out
umount disk.films; green=0; ext || green=$?
delpart "$P" 1; delpart "$P" 2; rm -f "${P}p1" "${P}p2"
test $twin = 78; grep "the drives P and Q are one and the same: ${P}p1 and ${P}p2 are on one disk" two
test $code = 1; grep "${P}p2 is still in use" out; test $green = 0
