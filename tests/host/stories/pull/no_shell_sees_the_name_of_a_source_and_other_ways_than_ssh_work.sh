# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv; let_in luv restrict
hit=hit${STORY##*/}
name="wü \$(touch $hit) \`touch $hit\`; touch $hit & 'it' \"is\" #x"
mkdir "luv/home/$name"; echo x >"luv/home/$name/x"
echo "source = [$(printf 'root@luv:/home/%s/' "$name" | sed 's/"/\\"/g; s/.*/"&"/')]" >pull.d/luv.toml
expect 0 "luv: copied 1 files" pull luv
same luv
# What other stories take away while it looks is no failure of this one.
test -z "$(find / -xdev -name "$hit" 2>/dev/null || true)"
for i in 1 2 3; do echo $i >"luv/home/$name/$i"; done; expect 0 "" pull luv
rm "luv/home/$name/1"; expect 0 "deleted 1" pull luv; same luv
rm "luv/home/$name/"*; expect 65 "all 3 files in /home/$name (home/$name/x, " pull luv
# A key that is restricted to a folder.
mkdir -p luv/home/jon; echo y >luv/home/jon/y
let_in luv 'restrict,command="rrsync -ro /home"'
configure luv "source = ['root@luv:/home/jon/']" "root = '/home'"
expect 0 "luv: copied 1 files" pull luv
inside test -f "$HOLDING/luv/home/jon/y"

# An rsync daemon.
client nuhc; echo la >nuhc/home/song
printf '[music]\npath = %s/nuhc/home\nuse chroot = no\nuid = root\ngid = root\n' "$STORY" >nuhc/rsyncd.conf
configure nuhc "source = ['rsync://nuhc/music/']"
expect 66 "it is not there: " pull nuhc
ip netns exec nuhc rsync --daemon --config="$STORY/nuhc/rsyncd.conf"
expect 0 "nuhc: copied 1 files" pull nuhc
inside cmp $HOLDING/nuhc/music/song "$STORY/nuhc/home/song"

# This machine.
mkdir -p own/d; echo z >own/d/z; chown 4711 own/d/z
configure own "source = ['$STORY/own/d']"
expect 0 "own: copied 1 files" pull own
test "$(inside stat -c %u "$HOLDING/own$STORY/own/d/z")" = 4711
# What an earlier tool has pulled belongs to others.
inside chown 4711 $HOLDING/luv
taken=$(inside find $HOLDING/luv ! -type d | wc -l)
expect 78 "does not belong to phobos-pull; give it over with \`phobos-ns exec -- chown -hR phobos-pull: $HOLDING/luv\`" pull luv
ns exec -- chown -hR phobos-pull: $HOLDING/luv
# What belongs to the user of all hosts, as before there was one for each, is given to the host's own.
mkdir outside; echo theirs >outside/theirs; chown 990 outside/theirs
inside ln -s "$STORY/outside/theirs" $HOLDING/luv/link; inside ln -s "$STORY/outside" $HOLDING/luv/home/way
inside chown -h phobos-pull: $HOLDING/luv/link $HOLDING/luv/home/way
expect 0 "luv: its holding space belongs to a user of its own from now on, 7000" pull luv
grep "luv: copied 0 files" out
test -z "$(inside find $HOLDING/luv ! -uid "$(owner luv)")"
test "$(stat -c %u outside/theirs)" = 990
test "$(inside find $HOLDING/luv ! -type d | wc -l)" -ge "$taken"
expect 0 "luv: copied 0 files" pull luv
# A copy of a space is another host's.
inside cp -a $HOLDING/luv $HOLDING/twin; cp pull.d/luv.toml pull.d/twin.toml
expect 0 "twin: its holding space belongs to a user of its own" pull twin
test "$(owner luv)" != "$(owner twin)"
