# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv; client laptop "optional = true"
echo x >luv/home/x; cp luv/home/x laptop/home/
expect 0 "" pull --all
kill "$(cat luv.pid)" "$(cat laptop.pid)"
expect 66 "it is not there: ssh: connect to host luv port 22: Connection refused" pull luv
sed '/ luv$/d; / laptop$/d' hosts >hosts.new; cat hosts.new >hosts
expect 66 "it is not there: ssh: Could not resolve hostname luv" pull luv
test "$(mark luv state)" = offline; inside test -f $HOLDING/luv/home/x
phobos-blink jobs | grep 'pull-luv.*failed'
grep '"object":"luv".*"exit":66' /var/lib/phobos/history.jsonl

expect 0 "that is no failure before its time" pull laptop
grep -q "^info: laptop: " out; never grep -q "^error" out
expect 66 "luv: cannot copy" pull --all
grep '"object":"laptop".*"exit":66' /var/lib/phobos/history.jsonl
expect 0 "laptop  offline" pull list
# The last good pull was longer ago than it may be.
echo "stale-after = '1h'" >>pull.d/laptop.toml
inside sed -i 's/"start": "20[0-9][0-9]/"start": "2020/' $HOLDING/.phobos/laptop.json
expect 66 "laptop: its copy is " pull laptop
grep "days, older than 1h: cannot copy from root@laptop:/home/" out
# It was dated by a clock that was years ahead: nobody knows how old it is, and it is not away for so long unnoticed.
inside sed -i 's/"start": "2020/"start": "2099/' $HOLDING/.phobos/laptop.json
expect 66 "laptop: its copy is of 2099-" pull laptop
grep "which is yet to come by this machine's clock" out
expect 0 "future" pull list
