# A job that may open or write next to nothing fails, and that is on the board all the same.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A
expect 0 "" ext -- first
# limited LIMIT COMMAND…: whatever comes of the command, a failure is posted.
limited() {
    local limit=$1 code=0
    shift
    rm -rf /run/phobos/led /var/lib/phobos/led
    # shellcheck disable=SC2086 # an option and a number
    (ulimit $limit; "$@") >out 2>&1 </dev/null || code=$?
    if [ $code = 0 ]; then return; fi
    if ! phobos-blink jobs | grep failed; then
        cat out
        echo "story: with ulimit $limit \`$*\` ended with $code, and nobody is told"
        exit 1
    fi
    never grep panicked out
}
# Fewer than five, and the loader of programs has none for their libraries. What may be raised is raised.
for descriptors in 5 6 7 8 12; do
    expect 0 "" bash -c "ulimit -Sn $descriptors; exec phobos-ext --config '$CONFIG' -- again"
done
for descriptors in 8 10 12 14 16 18 20 24 28 32; do
    limited "-n $descriptors" ext -- again
    limited "-n $descriptors" ns exec --job night --lock repository -- false
done
# Not a byte into any file: nothing that is posted is one. What can be written is told.
expect 1 "File too large" bash -o pipefail -c "(ulimit -f 0; phobos-ext --config '$CONFIG' -- again 2>&1) | cat"
limited "-f 1" ext -- again
limited "-f 8" ext -- again
rm -rf /run/phobos/led /var/lib/phobos/led
expect 0 "" ext -- good
