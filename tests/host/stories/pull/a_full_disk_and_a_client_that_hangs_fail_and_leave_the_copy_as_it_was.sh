# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv; head -c 3000000 /dev/urandom >luv/home/photo; cp luv/home/photo was
printf '[backup]\nreserve = "0%%"\n' >>"$CONFIG"
expect 0 "" pull luv
head -c 20000000 /dev/urandom >luv/home/photo
inside sh -c 'fallocate -l $(($(stat -f -c "%a * %S" /backup) - 8000000)) /backup/full'
expect 1 "No space left on device" pull luv
test "$(mark luv state)" = failed
inside cmp $HOLDING/luv/home/photo "$STORY/was"
inside rm /backup/full
expect 0 "" pull luv; same luv
never inside sh -c "find $HOLDING -name '.phobos-*' | grep ."

# It lets us in and then says nothing.
let_in luv 'restrict,command="sleep 1000"'
echo "time-limit = '2s'" >>pull.d/luv.toml
expect 1 "luv: cannot copy from root@luv:/home/: it took longer than 2s" pull luv
test "$(mark luv state)" = failed; same luv
