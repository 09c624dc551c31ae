//! Stories that take a minute and more. Tests begin in the order of their names: these are the first, so that no core stands
//! idle beside the last of them.

use crate::miniature::tell;
use crate::pull;

/// Ten jobs started at once, a thousand times over, each a real one: none runs beside one that it would disturb, none is left
/// waiting. `phobos-core/tests/locks.rs` does the same without the programs.
#[test]
fn ten_jobs_at_once_never_disturb_each_other() {
    tell(
        r#"
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
        mkdir runs; for job in "${!locks[@]}"; do : >"runs/$job"; done
        # A job: it runs from the first line to the last, and looks around in between. All of it is the shell's own doing.
        work='job=$1; shift; echo x >"$job"
            look=0; while [ $look -lt 100 ]; do
                look=$((look + 1)); for other; do if [ -s "$other" ]; then echo "$job beside $other" >>../together; fi; done
            done
            : >"$job"; echo "$job" >>../done'
        for round in $(seq 1000); do
            pids=
            for job in "${!locks[@]}"; do
                (cd runs && exec phobos-ns exec --no-namespace --lock-wait 60s ${locks[$job]} -- sh -c "$work" sh "$job" ${enemies[$job]}) & pids="$pids $!"
            done
            for pid in $pids; do wait "$pid"; done
        done
        if [ -e together ]; then cat together; exit 1; fi
        test "$(grep -c . done)" = 10000
        "#,
    );
}

#[test]
fn two_hundred_thousand_small_files_are_pulled_and_then_left_alone() {
    pull::tell(
        r#"
        # So many files are made, read and removed faster where each fits into its inode.
        disk home 1000; mkdir chew; mount "$home" chew
        disk back 1000; mkdir chew/back; mount "$back" chew/back
        client chew
        mkdir chew/home/{1..200}
        (cd chew/home && seq 200000 | awk '{ file = ($1 % 200 + 1) "/" $1; print $1 >file; close(file) }')
        expect 0 "chew: copied 200000 files with 1." pull chew
        inside rsync -aHAX --numeric-ids --fake-super -M--super $HOLDING/chew/ "$STORY/chew/back/"
        list() { (cd "$1/home" && find . -printf '%P %y %m %u %g %T@ %l\n' | sort; find . -type f -print0 | sort -z | xargs -0 cat); }
        list chew >is; list chew/back >was
        cmp is was
        expect 0 "chew: copied 0 files with 0 B, deleted 0" pull chew
        umount -l chew
        "#,
    );
}
