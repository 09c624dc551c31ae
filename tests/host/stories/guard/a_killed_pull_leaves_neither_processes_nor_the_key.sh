# shellcheck source=../../guard.sh
. "$HOST/guard.sh"

spaces
client luv
mkdir client; head -c 6000000 /dev/urandom >client/photo
host luv "luv:$STORY/client/" 'bandwidth-limit = "100K"'
friend luv
phobos-pull --config "$CONFIG" luv & puller=$!
under_way() { inside find /backup/holding/luv -name 'photo.*' | grep .; }
until under_way; do kill -0 $puller; done
pgrep -u 70000 rsync; pgrep -u 70000 ssh
test "$(stat -c '%a %u' /run/phobos/pull/luv)" = "400 70000"
kill -KILL $puller; wait $puller || true
while pgrep -u 70000; do :; done
# Nobody could take the copy back; the next pull does, and lends it anew.
test -e /run/phobos/pull/luv
sed -i '/^bandwidth/d' pull.d/luv.toml
expect 0 "luv: copied" pull luv
test -z "$(ls -A /run/phobos/pull)"
