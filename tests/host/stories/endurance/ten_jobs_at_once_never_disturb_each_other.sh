# Ten jobs started at once, two hundred times over and with PHOBOS_LONG a thousand times, each a real one: none runs beside one that
# it would disturb, none is left waiting. `phobos-core/tests/locks.rs` does the same without the programs.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

# What must not run beside a job, besides itself.
declare -A locks=(
    [pull-luv]="--lock holding:shared --lock holding/luv" [again-luv]="--lock holding:shared --lock holding/luv"
    [pull-nuhc]="--lock holding:shared --lock holding/nuhc" [pull-chew]="--lock holding:shared --lock holding/chew"
    [night]="--lock holding --lock repository" [check]="--lock repository"
    [mirror-A]="--lock drive/A --lock holding --lock repository" [drill-A]="--lock drive/A"
    [mirror-B]="--lock drive/B --lock holding --lock repository" [drill-B]="--lock drive/B"
)
declare -A enemies=(
    [pull-luv]="again-luv night mirror-A mirror-B" [again-luv]="pull-luv night mirror-A mirror-B"
    [pull-nuhc]="night mirror-A mirror-B" [pull-chew]="night mirror-A mirror-B"
    [night]="pull-luv again-luv pull-nuhc pull-chew check mirror-A mirror-B" [check]="night mirror-A mirror-B"
    [mirror-A]="pull-luv again-luv pull-nuhc pull-chew night check mirror-B drill-A" [drill-A]="mirror-A"
    [mirror-B]="pull-luv again-luv pull-nuhc pull-chew night check mirror-A drill-B" [drill-B]="mirror-B"
)
rounds=200
if [ "$PHOBOS_LONG" ]; then rounds=1000; fi
mkdir runs; for job in "${!locks[@]}"; do : >"runs/$job"; done
# A job: it runs from the first line to the last, and looks around in between. All of it is the shell's own doing.
work='job=$1; shift; echo x >"$job"
    look=0; while [ $look -lt 100 ]; do
        look=$((look + 1)); for other; do if [ -s "$other" ]; then echo "$job beside $other" >>../together; fi; done
    done
    : >"$job"; echo "$job" >>../done'
for _ in $(seq $rounds); do
    pids=
    for job in "${!locks[@]}"; do
        # shellcheck disable=SC2086 # several words
        (cd runs && exec phobos-ns exec --no-namespace --lock-wait 60s ${locks[$job]} -- sh -c "$work" sh "$job" ${enemies[$job]}) & pids="$pids $!"
    done
    for pid in $pids; do wait "$pid"; done
done
if [ -e together ]; then cat together; exit 1; fi
test "$(grep -c . "done")" = $((10 * rounds))
