# Every pair of jobs of the table of locks, in both orders, by their actual running times.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

timed() { phobos-ns --config "$CONFIG" exec --no-namespace "$@"; }
declare -A locks=(
    [pull]="--lock holding:shared --lock holding/luv" [other]="--lock holding:shared --lock holding/nuhc"
    [night]="--lock repository --lock holding" [check]="--lock repository"
    [mirror]="--lock drive/A --lock holding --lock repository" [drill]="--lock drive/A"
)
# What must not run beside a job, besides another of its own kind.
declare -A enemies=(
    [pull]="night mirror" [other]="night mirror" [night]="pull other check mirror" [check]="night mirror"
    [mirror]="pull other night check drill" [drill]="mirror"
)
for first in "${!locks[@]}"; do
    for second in "${!locks[@]}"; do
        case " $first ${enemies[$first]} " in *" $second "*) want=apart ;; *) want=together ;; esac
        # The first job ends when the second has begun, or after the second was seen waiting.
        rm -f first second go; mkfifo first go
        # shellcheck disable=SC2086 # several words
        timed --job a ${locks[$first]} -- sh -c "echo >first; read x <go" & a=$!
        read -r _ <first
        # shellcheck disable=SC2086 # several words
        timed --job b ${locks[$second]} -- sh -c "echo ran >second" & b=$!
        seen=
        until [ "$seen" ]; do
            if [ -s second ]; then seen=together; fi
            if ns status --json | tr -d '\n ' | grep -q '"waiters":\[{[^]]*"job":"b"'; then seen=apart; fi
        done
        echo >go; wait $a; wait $b; rm -f first; test -s second
        [ "$seen" = $want ] || { echo "story: $first and $second: $seen, not $want"; exit 1; }
    done
done
