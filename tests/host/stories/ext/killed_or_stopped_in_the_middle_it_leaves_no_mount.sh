# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A 400; ns
inside sh -c 'head -c 200000000 /dev/urandom >/backup/holding/luv/film'
gone() { while pgrep -x rsync >/dev/null; do :; done; }
running() { gone; phobos-ext --config "$CONFIG" >running 2>&1 & run=$!; until rsync=$(pgrep -o -x rsync); do kill -0 $run; done; }
running; kill -TERM $run; code=0; wait $run || code=$?; cat running; test $code = 143
grep "stopped by signal 15" running; safe A
running; kill -KILL "$rsync"; code=0; wait $run || code=$?; cat running; test $code = 1
grep "was killed by signal 9" running; safe A
running; kill -KILL $run; wait $run || true
gone
expect 0 "which a run has left mounted" ext --drive A close; safe A
running; kill -KILL $run; wait $run || true
gone
expect 0 "which an earlier run has left mounted" ext
safe A; sound A
