# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv "bandwidth-limit = '20MiB'"; client nuhc
echo old >luv/home/kept; echo x >nuhc/home/x
printf '[backup]\nreserve = "100MiB"\n' >>"$CONFIG"
expect 0 "" pull --all
free() { inside stat -f -c '%a * %S / 1048576' /backup | xargs -I {} sh -c 'echo $(({}))'; }
# Room for 20 MB more than a pull may take that brings much; what it has brought in full stays.
inside fallocate -l "$(($(free) - 170))M" /backup/others
for number in $(seq 9); do head -c 9000000 /dev/urandom >luv/home/film-"$number"; done
expect 1 "luv: cannot copy from root@luv:/home/: no room for luv in $HOLDING: " pull luv
grep -E "[0-9.]+ MB free, and a pull that brings much leaves 157\.29 MB: the reserve of 104\.86 MB and room for the other hosts" out
grep -F "; make room there, leave something out with \`exclude\`, or set another \`reserve\` in [backup]" out
test "$(free)" -gt 110
test "$(mark luv state)" = failed; phobos-blink jobs | grep 'pull-luv.*failed.*no room for luv'
grep '"object":"luv".*"exit":1,.*no room for luv' /var/lib/phobos/history.jsonl
inside test -f $HOLDING/luv/home/kept; inside ls $HOLDING/luv/home | grep film
never inside sh -c "find $HOLDING -name '.phobos-*' ! -path $HOLDING/.phobos | grep -F .phobos-"
# Whoever brings little still can.
echo y >nuhc/home/y; expect 0 "nuhc: copied 1 files" pull nuhc; same nuhc
# One large file is cut off and gives its room back.
rm luv/home/film-*; expect 0 "" pull --allow-delete luv
head -c 170000000 /dev/urandom >luv/home/film
expect 1 "no room for luv" pull luv
# The file system gives it back when it has let go of the file.
until test "$(free)" -gt 160; do inside sync -f /backup; done
rm luv/home/film; expect 0 "" pull --all; same luv; same nuhc
# Below the reserve nothing begins, not even for this machine's own folders, and nothing is made.
mkdir own; head -c 9000 /dev/urandom >own/0; configure own "source = ['$STORY/own']" "bandwidth-limit = '1MiB'"
inside fallocate -o "$(inside stat -c %s /backup/others)" -l "$(($(free) - 95))M" /backup/others
for name in own luv; do
    expect 1 "$name: no room for $name in $HOLDING: " pull $name; grep 'free, less than the reserve of 104.86 MB' out
done
inside test ! -e $HOLDING/own; same luv
expect 0 "" pull --dry-run luv
inside rm /backup/others; expect 0 "" pull --all
# Inodes can be used up too, by files that need no room.
inside mount -t tmpfs -o mode=711,size=2G,nr_inodes=600 tmpfs $HOLDING
sed -i 's/100MiB/20%/' "$CONFIG"
for number in $(seq 1000); do cp own/0 own/"$number"; done
expect 1 "own: cannot copy from $STORY/own: no room for own in $HOLDING: " pull own
grep -E '[0-9]+ inodes free, and a pull that brings much leaves 1[78][0-9] inodes: the reserve of 1[12][0-9] inodes' out
test "$(inside stat -f -c %d $HOLDING)" -gt 20
