//! Stories of the mirror, with a drive that is not encrypted: what it copies, and what it refuses to touch.

use crate::miniature::tell;

#[test]
fn a_mirror_is_whole_and_the_second_one_copies_only_what_is_new() {
    tell(
        r#"
        backup_disk; drive A
        expect 0 "phobos-ext (by hand) finished" ext -- by hand
        for word in drives2 colse; do expect 2 "is no command, and nothing was done" ext $word; done
        expect 2 "did you mean \`phobos-ext close\`?" ext colse
        INVOCATION_ID=x expect 0 "phobos-ext (by a unit) finished" ext --dry-run by a unit
        safe A; sound A; never outside_sees /extbackup
        mount "$A" disk.A; cmp disk.A/holding/luv/photo <(inside cat /backup/holding/luv/photo); umount disk.A
        inside borg create /backup/borg::two /etc/hostname
        expect 0 "copied" ext
        never grep photo out
        grep -E 'with [0-9.]+ k?B, deleted' out
        safe A; sound A
        test "$(grep -c '"exit":0' /var/lib/phobos/history.jsonl)" = 2
        expect 0 "finished" inside phobos-ext --config "$CONFIG" -- within nsenter
        "#,
    );
}

#[test]
fn metadata_of_the_holding_spaces_is_kept() {
    tell(
        r#"
        backup_disk; drive A
        mount "$bdisk" disk.bdisk; cd disk.bdisk/holding
        ln luv/photo luv/same; chown 1234:5678 luv/photo; setfattr -n user.origin -v luv luv/photo || touch "$STORY/no-xattr"
        printf x >"luv/a
new line"; umask 077; mkdir luv/private
        cd "$STORY"; umount disk.bdisk; sed -i '1i [external]\nattributes = true' "$CONFIG"
        ext; mount "$A" disk.A
        test disk.A/holding/luv/photo -ef disk.A/holding/luv/same
        test "$(stat -c %u:%g disk.A/holding/luv/photo)" = 1234:5678
        test "$(stat -c %a disk.A/holding/luv/private)" = 700
        test -e no-xattr || test "$(getfattr --only-values -n user.origin disk.A/holding/luv/photo)" = luv
        test -f "disk.A/holding/luv/a
new line"
        "#,
    );
}

#[test]
fn a_dry_run_changes_nothing() {
    tell(
        r#"
        backup_disk; drive A
        before=$(content A)
        expect 0 ">f+++++++++ holding/luv/photo" ext --dry-run
        test "$(content A)" = "$before"; safe A
        mount "$A" disk.A; test ! -e disk.A/.phobos; umount disk.A
        test ! -e /var/lib/phobos/history.jsonl
        "#,
    );
}

#[test]
fn a_source_that_is_not_the_repository_leaves_the_drive_as_it_was() {
    tell(
        r#"
        backup_disk; drive A; ext; before=$(content A)
        inside mv /backup/borg /backup/gone
        expect 65 "no Borg repository in /backup/borg: there is no file \`config\`" ext
        inside borg init -e none /backup/borg
        inside borg create /backup/borg::other /etc/hostname
        expect 65 "the drive belongs to the repository" ext
        inside rm -r /backup/borg; inside mv /backup/gone /backup/borg
        inside mkdir /backup/safe; segment=$(inside sh -c 'ls -S /backup/borg/data/0/* | head -1')
        inside mv "$segment" /backup/safe
        expect 65 "the source is damaged: segments that it needs are missing" ext
        inside sh -c "mv /backup/safe/* $segment"; inside rmdir /backup/safe
        test "$(content A)" = "$before"; safe A
        ext; sound A
        "#,
    );
}

#[test]
fn an_older_or_much_smaller_source_leaves_the_drive_as_it_was() {
    tell(
        r#"
        backup_disk; drive A; ns
        inside cp -a /backup/borg /backup/old
        inside borg create /backup/borg::two /etc/hostname
        ext; before=$(content A)
        inside mv /backup/borg /backup/new; inside mv /backup/old /backup/borg
        expect 65 "the source is older than the copy" ext
        test "$(content A)" = "$before"; safe A
        inside rm -r /backup/borg; inside mv /backup/new /backup/borg
        inside borg delete /backup/borg::one; inside borg delete /backup/borg::two
        inside borg create /backup/borg::one /etc/hostname
        inside borg compact /backup/borg
        expect 65 "the repository has" ext
        test "$(content A)" = "$before"
        plan=$(grep -o 'run once with --accept [0-9a-f]*' out | cut -d' ' -f5)
        expect 65 "another difference than this one" ext --accept 00000000
        expect 0 "finished" ext --accept "$plan"
        expect 0 "finished" ext
        sound A
        "#,
    );
}

#[test]
fn a_drive_that_holds_something_else_is_refused_and_the_originals_copy_is_adopted() {
    tell(
        r#"
        backup_disk; drive A
        mount "$A" disk.A; echo holiday >disk.A/photo; umount disk.A
        before=$(content A)
        expect 65 "the drive holds something else than a mirror of this repository, such as photo" ext
        test "$(content A)" = "$before"; safe A
        mount "$A" disk.A; rm disk.A/photo; ns
        # What the original leaves on a drive: the repository with its lock in it, and no marker.
        inside cat /proc/self/mountinfo >/dev/null
        mount "$bdisk" disk.bdisk; cp -a disk.bdisk/borg disk.A/; umount disk.bdisk
        mkdir disk.A/borg/lock.exclusive; echo '{}' >disk.A/borg/lock.roster; umount disk.A
        expect 0 "belongs to the repository" ext
        safe A; sound A
        "#,
    );
}

#[test]
fn a_full_drive_keeps_its_old_copy() {
    tell(
        r#"
        backup_disk; drive A 24; ext; sound A
        inside sh -c 'head -c 30000000 /dev/urandom >/backup/holding/luv/film'
        inside borg create /backup/borg::two /backup/holding
        before=$(content A)
        expect 65 "have to be written and" ext
        test "$(content A)" = "$before"; safe A; sound A
        test "$(grep -c '"exit":65' /var/lib/phobos/history.jsonl)" = 1
        "#,
    );
}

#[test]
fn a_repository_in_use_is_waited_for_by_name() {
    tell(
        r#"
        backup_disk; drive A; ns
        mkfifo fifo
        inside borg with-lock /backup/borg sh -c "echo held >$STORY/held; cat $STORY/fifo" & holder=$!
        until test -s held; do kill -0 $holder; done
        expect 75 "waiting for Borg's lock on /backup/borg, held by \`" ext --lock-wait 2s
        grep "gave up waiting for Borg's lock on /backup/borg, held by" out
        grep "borg with-lock" out
        mount "$A" disk.A; test ! -e disk.A/borg; umount disk.A
        phobos-ext --config "$CONFIG" >waiting 2>&1 & waiter=$!
        until grep -q "waiting for Borg's lock" waiting; do kill -0 $waiter; done
        echo go >fifo; wait $waiter; cat waiting; grep finished waiting
        "#,
    );
}

#[test]
fn one_run_at_a_time_and_leftovers_are_cleared() {
    tell(
        r#"
        backup_disk; drive A; drive B
        ext --drive A >a 2>&1 & a=$!; ext --drive B >b 2>&1 & b=$!; wait $a; wait $b
        safe A; safe B; sound A; sound B
        inside mount "$A" /extbackup
        expect 0 "unmounting /extbackup, which an earlier run has left mounted" ext --drive B
        safe A; safe B
        # Mounted where no process sees it, in a namespace that only a file keeps: the kernel knows all the same.
        mkdir kept; mount --bind kept kept; mount --make-private kept; touch kept/ns
        keep kept/ns mount "$A" /mnt
        expect 1 "is still in use" ext --drive A
        umount kept/ns
        mount "$A" /extbackup
        expect 65 "/extbackup is mounted outside the namespace; run \`umount /extbackup\` first" ext --drive B
        "#,
    );
}

#[test]
fn killed_or_stopped_in_the_middle_it_leaves_no_mount() {
    tell(
        r#"
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
        "#,
    );
}

/// The journal gets a line every so often, however little rsync says; a person sees a bar.
#[test]
fn progress_is_a_line_now_and_then_and_a_bar_for_a_person() {
    tell(
        r#"
        backup_disk; drive A 400; ns
        inside sh -c 'head -c 200000000 /dev/urandom >/backup/holding/luv/film; mkdir /backup/holding/many; cd /backup/holding/many; seq 1000 | xargs touch'
        SECONDS=0; phobos-ext --config "$CONFIG" >running 2>&1 & run=$!
        until kill -STOP $(pgrep -x rsync) 2>/dev/null; do kill -0 $run; done
        until grep -E 'info: copied [0-9.]+ [kM]?B so far' running; do kill -0 $run; sleep 0.1; done
        # 10 s after the beginning, 30 s, and so on: another one if this machine stood still for so long.
        test $SECONDS -ge 9; kill -CONT $(pgrep -x rsync); wait $run; cat running
        test "$(grep -c 'so far' running)" -le 2; test "$(wc -l <running)" -lt 20; never grep '#' running
        inside sh -c 'head -c 50000000 /dev/urandom >/backup/holding/luv/film'
        script --quiet --return --command "phobos-ext --config $CONFIG" typescript >/dev/null </dev/null
        tr '\r' '\n' <typescript >seen; sed 's/\x1b/^/g' seen
        test "$(grep -cE '\[#* *\] copied [0-9.]+ [kM]?B, [0-9]+ % ' seen)" -ge 2; grep -E '\[#+ *\] copied 5[0-9.]+ MB, ' seen
        safe A; sound A
        "#,
    );
}

#[test]
fn a_run_that_could_not_begin_stays_red_until_one_succeeds() {
    tell(
        r#"
        backup_disk; drive A
        failed() { phobos-blink jobs --json | tr -d ' \n' | grep -o '"name":"ext[^"]*","state":"failed"'; }
        expect 78 "no drive \"C\" is configured" ext --dry-run --drive C
        never failed
        expect 78 "no drive \"C\" is configured" ext --drive C
        failed | grep -xF '"name":"ext","state":"failed"'
        expect 0 "finished" ext
        never failed
        # Another run of the same drive that gives up waiting says nothing about the drive itself.
        ns exec --lock drive/A -- sh -c "echo >$STORY/held; exec sleep 300" & holder=$!
        until test -s held; do kill -0 $holder; done
        expect 75 "gave up waiting for the lock drive/A" ext --lock-wait 0s
        failed | grep -xF '"name":"ext","state":"failed"'
        kill $holder
        "#,
    );
}

#[test]
fn bad_input_is_one_line_and_does_nothing() {
    tell(
        r#"
        backup_disk; drive A
        expect 78 "no drive \"C\" is configured, only A" ext --drive C
        expect 2 "unexpected argument '--dryrun'" ext --dryrun
        mount --bind /dev/null /usr/bin/rsync; mount --bind /dev/null /usr/bin/borg
        expect 78 "cannot find the programs borg, rsync; install them" ext
        umount /usr/bin/rsync /usr/bin/borg
        expect 77 "only root can do this" setpriv --reuid 65534 --clear-groups "$STORY/phobos-ext"
        losetup -d "$A"; rm -f A.img
        echo 'colour = 1' >>"$CONFIG"
        expect 78 "unknown field \`colour\`" ext
        chmod 666 "$CONFIG"
        expect 78 "it can be written by others than root" ext
        expect 78 "cannot read /no/such.toml" phobos-ext --config /no/such.toml
        test "$(wc -l <out)" = 2
        "#,
    );
}

#[test]
fn nobody_who_reads_the_two_lines_is_no_reason_not_to_mirror() {
    tell(
        r#"
        backup_disk; drive A
        ext >/dev/full 2>out || { cat out; exit 1; }
        grep "cannot write to standard output" out; safe A; sound A
        inside borg create /backup/borg::two /etc/hostname
        ext >&- 2>out || { cat out; exit 1; }
        safe A; sound A
        test "$(grep -c '"exit":0' /var/lib/phobos/history.jsonl)" = 2
        # Few descriptors: whatever becomes of the mirror, the light is not green without it, and the failure is told.
        code=0; (ulimit -n 12; phobos-ext --config "$CONFIG") >out 2>&1 || code=$?; cat out; test $code != 0
        phobos-blink jobs --json | tr -d ' \n' | grep -o '"name":"ext[^"]*","state":"failed"'
        ext; sound A
        "#,
    );
}
