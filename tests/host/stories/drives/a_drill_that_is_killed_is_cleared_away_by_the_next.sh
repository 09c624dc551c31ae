# A drill that is killed or stopped at any moment leaves nothing that the next one does not close.
#
# shellcheck source=../../drill.sh
. "$HOST/drill.sh"

house repokey 4; ext; before=$(sha256sum <"$A")
for number in 1 2 3; do
    words=(); if [ "$number" = 2 ]; then words=(--full); fi
    phobos-ext --config "$CONFIG" drill "${words[@]}" & job=$!
    sleep "$(python3 -c "import random; print(random.Random($SEED + $number).uniform(0, 2.5))")"
    kill -9 $job || true; wait $job || true
done
# Borg ends with it.
ended -x borg
expect 0 "5 files restored from A" ext drill; bare
# One that is asked to end closes the drive itself, whatever it is at.
for words in "" --full; do
    # shellcheck disable=SC2086 # One word or none.
    phobos-ext --config "$CONFIG" drill $words >out 2>&1 & job=$!
    until pgrep -x borg; do kill -0 $job; sleep 0.01; done; kill -TERM $job
    code=0; wait $job || code=$?; cat out; test $code = 143; bare; test "$before" = "$(sha256sum <"$A")"
done
