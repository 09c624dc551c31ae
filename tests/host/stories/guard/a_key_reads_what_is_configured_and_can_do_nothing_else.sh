# shellcheck source=../../guard.sh
. "$HOST/guard.sh"

mkdir -p "client/home/jon" "client/it's \"x y\""; echo photo >client/home/jon/photo
client luv
host luv "luv:$STORY/client/home/" "root = '$STORY/client/home'"
expect 78 "there is no key $STORY/keys/pull; run \`phobos-pull authorize luv\`" pull check luv
expect 0 "made the key $STORY/keys/pull" pull authorize luv
expect 65 "the host key of [luv]:$luv is not known; run \`phobos-pull trust luv\`" pull check luv

# A host is trusted by the fingerprint of its key, and by no other.
real=$(ssh-keygen -lf luv.hostkey.pub | cut -d' ' -f2)
expect 65 "nobody is here to compare the keys of [luv]:$luv" pull trust luv </dev/null
grep -F "$real (ED25519)" out
other=SHA256:KZQ+Cwy0YmUeSOXOIxrAOWXpaMJKPojwb6EOJTrYOHg
expect 65 "shows none of the keys that you trust" pull trust luv --fingerprint $other
test ! -e known_hosts
# Somebody at a terminal compares, and answers.
at_terminal() { echo "$1" | script -qec "phobos-pull --config $CONFIG trust luv" /dev/null; }
expect 65 "the keys of [luv]:$luv are not trusted; nothing was changed" at_terminal no
test ! -e known_hosts
expect 0 "Are they the same?" at_terminal yes
grep -F "trusted from now on for [luv]:$luv: $real" out
rm known_hosts
expect 0 "trusted from now on" pull trust luv --fingerprint "$real"
expect 0 "is known" pull trust luv
test "$(stat -c %a known_hosts)" = 644

expect 1 "cannot log in as root@luv: it does not let phobos-pull in: root@luv: Permission denied (publickey" pull check luv
grep -F 'put the line that `phobos-pull authorize luv` prints there' out

# The line as printed does all that is needed, and no more.
pull authorize luv >luv.keys
grep -x "restrict,command=\"rrsync -ro $STORY/client/home\" ssh-ed25519 [^ ]* phobos-pull@.*" luv.keys
expect 0 "" pull check luv
# Besides there may be a word about this machine's rsync.
grep '^luv: ' out >told
diff told - <<END
luv: the host key is known
luv: root@luv accepts the key
luv: any other command is refused
luv: $STORY/client/home can be read
luv: writing is refused
luv: forwarding is refused
END

# It is tried as a user of its own, with this machine's rsync, which is named if it is an old one.
printf '#!/bin/sh\ncase $1 in --version) echo "rsync  version 3.2.7  protocol version 31" ;; *) id -u >&2; exit 1; esac\n' >old
chmod 755 old; mount --bind old /usr/bin/rsync
expect 1 "cannot read the sources of luv: rsync ended with exit code 1: 70999" pull check luv
grep -F "rsync 3.2.7 of this machine has vulnerabilities" out
umount /usr/bin/rsync
# Two checks end each other's processes: one is at work at a time.
exec 9</run/phobos/pull/.check.lock; flock -x 9
expect 75 "another check is under way" pull check luv
exec 9<&-

# A key that can do more is good enough to pull with, but not good.
line=$(cat luv.keys)
sed -i 's/^.*" //' luv.keys
sed -i '/^root/d' pull.d/luv.toml
can="luv lets this machine"
use="use this line in its authorized_keys instead: restrict,command=\"rrsync -ro /\" ssh-ed25519"
expect 0 "$can run any command; $use" pull check luv
grep -F "$can write; $use" out
grep -F "$can reach other machines through the host; $use" out
test "$(ls client/home)" = jon

# Forwarding alone is too much, too.
echo "${line#restrict,}" >luv.keys
echo "root = '$STORY/client/home'" >>pull.d/luv.toml
expect 0 "luv: writing is refused" pull check luv
test "$(grep -c "$can" out)" = 1
grep -F "$can reach other machines through the host" out

# A source that is not there.
echo "$line" >luv.keys
sed -i "1s|client/home/'|client/home/eve/'|" pull.d/luv.toml
expect 1 "cannot read the sources of luv" pull check luv

# Quotes, blanks and all.
place="$STORY/client/it's \"x y\""
printf 'port = %s\nsource = ["""luv:%s/"""]\nroot = """%s"""\n' "$luv" "$place" "$place" >pull.d/luv.toml
pull authorize luv >luv.keys
expect 0 "luv: $place can be read" pull check luv
test "$(grep -c "$can" out)" = 0

# Another machine answers in its place.
kill "$(cat luv.pid)"; while test -e luv.pid; do :; done
expect 66 "cannot log in as root@luv: it is not there: ssh: connect to host" pull check luv
until ! ss -Hltn "sport = :$luv" | grep -q .; do :; done
rm luv.hostkey*; ssh-keygen -q -t ed25519 -N '' -C '' -f luv.hostkey
/usr/sbin/sshd -f "$STORY/luv.sshd" -E "$STORY/luv.log"
expect 65 "its host key is not the one that is known" pull check luv
grep -F 'if it was changed for a good reason, run `phobos-pull trust luv`' out
expect 65 "had other keys until now: $real" pull trust luv </dev/null
expect 0 "trusted from now on" pull trust luv --fingerprint "$(ssh-keygen -lf luv.hostkey.pub | cut -d' ' -f2)"
expect 0 "luv: writing is refused" pull check luv
test "$(wc -l <known_hosts)" = 1
test -z "$(ls /run/phobos/pull)"
