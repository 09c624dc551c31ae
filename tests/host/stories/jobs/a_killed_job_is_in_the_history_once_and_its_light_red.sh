# A job that is killed can say nothing: whoever begins next writes it into the history, once, and puts it on the light.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

mkfifo go
job() { ns exec --no-namespace --job "$@" </dev/null; }
told() { cat /var/lib/phobos/history.jsonl; test "$(grep -c '"job":"night"' /var/lib/phobos/history.jsonl)" = "$1"; }
running() { ls /var/lib/phobos/running/*.json; }
for round in 1 2 3; do
    phobos-ns --config "$CONFIG" exec --no-namespace --job night -- cat go </dev/null & run=$!
    until pgrep -x cat; do kill -0 $run; done; running
    job other -- true; told $((round - 1))
    kill -KILL $run; wait $run || true
    # As many as like begin at once.
    for _ in 1 2 3 4; do job other -- true & done; wait
    told $round; never running
done
grep '"job":"night".*"exit":137,"error":"killed while it was at work","origin":"signal"' /var/lib/phobos/history.jsonl
expect 0 "night" phobos-blink jobs; grep 'night *failed' out
job night -- true
expect 0 "" phobos-blink jobs; never grep night out
