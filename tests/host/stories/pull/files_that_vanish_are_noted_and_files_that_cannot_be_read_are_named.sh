# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv "bandwidth-limit = '1MiB'"
big_file luv a-photo; echo x >luv/home/z-gone; echo y >luv/home/z-stays
# rsync compares whole seconds: what changes later must have another one.
touch -d '1 hour ago' luv/home/z-stays
phobos-pull --config "$CONFIG" luv >said.pull 2>&1 & job=$!
under_way luv a-photo $job; rm luv/home/z-gone; echo more >>luv/home/z-stays
wait $job; cat said.pull
grep 'some files vanished while they were read: file has vanished: "/home/z-gone"' said.pull
test "$(mark luv state)" = ok; inside grep '"note": .*z-gone' $HOLDING/.phobos/luv.json
expect 0 "" pull luv; same luv

client nuhc; echo secret >nuhc/home/secret; echo fine >nuhc/home/fine
expect 0 "" pull nuhc
# A bad block: reading the file is an error, for root too.
ON_MOUNT="mount --bind /proc/self/mem /home/secret" restart nuhc
rm nuhc/home/fine
expect 1 'some files could not be copied: rsync: [sender]' pull nuhc
grep '/home/secret' out
# What cannot be read whole deletes nothing.
inside test -f $HOLDING/nuhc/home/fine; test "$(mark nuhc state)" = failed
echo 'success = [23, 24]' >>pull.d/nuhc.toml
expect 0 "some files could not be copied" pull nuhc
inside test -f $HOLDING/nuhc/home/fine
# But a source that has another name now is not copied at all.
configure nuhc "source = ['root@nuhc:/home/', 'root@nuhc:/gone/']" 'success = [23, 24]'
expect 1 "a source is not there: rsync: [sender] " pull nuhc
test "$(mark nuhc state)" = failed
