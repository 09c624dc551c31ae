# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

for name in luv nuhc chew; do client $name; echo x >$name/home/x; done
expect 0 "" pull chew; expect 0 "" pull luv
pull --all --jobs 1 --json >outcomes
test "$(sed -n 's/.*"host": "\(.*\)",/\1/p' outcomes | tr '\n' ' ')" = "nuhc chew luv "
mkfifo night
phobos-ns --config "$CONFIG" exec --job night --lock holding -- sh -c "echo >$STORY/night; exec sleep 300" & night=$!
read -r _ <night
expect 75 "held by night (pid $night" pull --lock-wait 0s luv
phobos-pull --config "$CONFIG" luv & job=$!
until ns status | grep 'awaited by: pull-luv'; do kill -0 $job; done
kill $night; wait $night || true; wait $job
# A mistake in one host's file is that host's.
echo 'source = 1' >pull.d/nuhc.toml
expect 0 "" pull luv
expect 78 "pull.d/nuhc.toml:1: source: invalid type" pull --all
expect 78 "no host is called phobos; give it a [[pull]] table" pull phobos
expect 2 "is no name for a host" pull ../luv
