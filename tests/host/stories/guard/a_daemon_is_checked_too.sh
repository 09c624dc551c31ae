# shellcheck source=../../guard.sh
. "$HOST/guard.sh"

mkdir music; echo tune >music/tune
printf '[music]\npath = %s\nuse chroot = no\nread only = no\nuid = root\ngid = root\n' "$STORY/music" >rsyncd.conf
mkdir pull.d
echo "source = ['rsync://chew:8730/music/']" >pull.d/chew.toml
expect 66 "cannot read the sources of chew: it is not there: rsync: " pull check chew
rsync --daemon --no-detach --address=127.0.0.1 --port=8730 --config=rsyncd.conf & daemon=$!
until (exec 3<>/dev/tcp/127.0.0.1/8730) 2>/dev/null; do kill -0 $daemon; done
expect 0 "chew lets this machine write; set \`read only = true\` in its rsyncd.conf" pull check chew
test "$(ls music)" = tune
sed -i 's/^read only.*/read only = yes/' rsyncd.conf
expect 0 "chew: writing is refused" pull check chew
expect 78 "chew has no source that is reached with ssh" pull authorize chew
kill $daemon; wait $daemon || true
