//! Stories of what must never reach a drive, or never be green: damage, forks, links, lost mounts, programs that lie.

use crate::miniature::tell;

/// Damage of many kinds to the source: refused with 65, and the drive is bit for bit as before.
#[test]
fn damage_to_the_source_never_reaches_the_drive() {
    tell(
        r#"
        backup_disk; drive A; drive H; ns; inside borg create /backup/borg::two /etc/hostname; ext --drive A; before=$(content A)
        mount "$bdisk" disk.bdisk; cp -a disk.bdisk/borg good; umount disk.bdisk
        R=/backup/borg
        damaged() {
            inside sh -c "cd $R; big=\$(ls -S data/0/* | head -1); new=\$(ls -v data/0/* | tail -1); $2"
            expect 65 "$1" ext --drive A
            test "$(content A)" = "$before"; safe A
            inside sh -c "rm -rf $R; cp -a $STORY/good $R"
        }
        damaged "differ from the copy's and are damaged" 'truncate -s -1000 $big'
        damaged "differ from the copy's and are damaged" 'truncate -s 9 $big'
        damaged "differ from the copy's and are damaged" 'printf x | dd of=$big bs=1 seek=200000 conv=notrunc'
        damaged "differ from the copy's and are damaged" 's=$(stat -c %s $big); rm $big; truncate -s $s $big'
        damaged "differ from the copy's and are damaged" 'head -c 5000 /dev/urandom >>$big'
        damaged "in which its last transaction ended, is missing or does not end with a commit" 'truncate -s -4 $new'
        damaged "" 'rm $big'
        damaged "" 'rm $new'
        damaged "no Borg repository" ': >config'
        damaged "is a symbolic link" 'mv data d2; ln -s d2 data'
        damaged "is a symbolic link" 'mv $big /backup/away; ln -s /backup/away $big; rm -rf /backup/away'
        damaged "is a FIFO" 'rm $big; mkfifo $big'
        damaged "" 'rm -r data/*'
        damaged "overwritten or encrypted by something that is not Borg" 'for file in data/0/*; do if [ $file != $new ]; then s=$(stat -c %s $file); head -c $s /dev/urandom >$file; fi; done'
        damaged "is no segment of Borg, and so are" 'for file in data/0/*; do mv $file $file.enc; done'
        damaged "luv is gone or empty" 'rm -rf /backup/holding/luv'
        "#,
    );
}

/// A new segment that is damaged is found while it is copied, by its checksums.
#[test]
fn a_damaged_new_segment_is_not_copied() {
    tell(
        r#"
        backup_disk; drive A; ext; before=$(content A)
        inside sh -c 'head -c 3000000 /dev/urandom >/backup/holding/luv/film'; inside borg create /backup/borg::two /backup/holding
        segment=$(inside sh -c 'ls -vd /backup/borg/data/0/* | tail -5 | xargs ls -S | head -1')
        inside sh -c "printf x | dd of=$segment bs=1 seek=1000000 conv=notrunc"
        expect 65 "is damaged: a wrong checksum" ext
        mount "$A" disk.A; test ! -e disk.A/holding/luv/film; umount disk.A; safe A; sound A
        "#,
    );
}

/// What the checksums of a segment cannot tell: one that ends between two entries, or is not there. Hints and index can,
/// and where they are damaged themselves, Borg makes them anew.
#[test]
fn what_hints_and_index_name_has_to_be_there() {
    tell(
        r#"
        backup_disk; drive A; ext; before=$(content A)
        inside sh -c 'head -c 3000000 /dev/urandom >/backup/holding/luv/film'; inside borg create /backup/borg::two /backup/holding
        mount "$bdisk" disk.bdisk; cp -a disk.bdisk/borg good; umount disk.bdisk
        back() { inside sh -c "rm -rf /backup/borg; cp -a $STORY/good /backup/borg"; }
        segment=$(inside sh -c 'ls -vd /backup/borg/data/0/* | tail -5 | xargs ls -S | head -1')
        cat >cut.py <<'END'
import struct, sys
data, at, ends = open(sys.argv[1], "rb").read(), 8, []
while at < len(data):
    at += struct.unpack("<I", data[at + 4:at + 8])[0]
    ends.append(at)
open(sys.argv[1], "r+b").truncate(ends[0])
END
        inside python3 "$STORY/cut.py" "$segment"
        expect 65 "cut off before the objects that the index finds in them" ext; test "$(content A)" = "$before"; safe A; back
        inside rm "$segment"
        expect 65 "" ext; test "$(content A)" = "$before"; safe A; back
        inside sh -c 'echo garbage | tee /backup/borg/hints.* /backup/borg/index.*'
        expect 65 "lost both its hints and its index" ext; test "$(content A)" = "$before"; safe A
        inside borg create /backup/borg::three /etc/hostname; ext; safe A; sound A
        "#,
    );
}

#[test]
fn an_older_repository_does_not_win_by_patience() {
    tell(
        r#"
        backup_disk; drive A; ns
        mount "$bdisk" disk.bdisk; cp -a disk.bdisk/borg old; umount disk.bdisk
        for name in two three; do inside borg create /backup/borg::$name /etc/hostname; done
        ext; before=$(content A)
        inside sh -c "rm -r /backup/borg; cp -a $STORY/old /backup/borg"
        for try in 1 2 3 4; do expect 65 "the source is older than the copy" ext; test "$(content A)" = "$before"; done
        export BORG_BASE_DIR=$STORY/another; for name in a b c d; do inside borg create /backup/borg::$name /etc/passwd; done
        expect 65 "went different ways from segment" ext; test "$(content A)" = "$before"; safe A
        "#,
    );
}

#[test]
fn a_source_behind_a_link_is_refused() {
    tell(
        r#"
        backup_disk; drive A; ext; before=$(content A); mkdir elsewhere
        for path in borg borg/data borg/data/0; do
            inside sh -c "cp -a /backup/$path $STORY/elsewhere/x; rm -r /backup/$path; ln -s $STORY/elsewhere/x /backup/$path"
            expect 65 "is a symbolic link" ext
            test "$(content A)" = "$before"; safe A
            inside sh -c "rm /backup/$path; cp -a $STORY/elsewhere/x /backup/$path; rm -r $STORY/elsewhere/x"
        done
        ext; sound A
        "#,
    );
}

/// What a drive has at names that phobos opens: nothing of the host is read or written through it, and nothing hangs.
#[test]
fn a_hostile_drive_reaches_nothing() {
    tell(
        r#"
        backup_disk; drive A; ext; mkdir victim; echo mine >victim/drive.json; echo mine >victim/x
        digest() { find victim -type f | sort | xargs sha256sum; ls -lR victim; }
        before=$(digest)
        hostile() {
            mount "$A" disk.A; cp -a disk.A/.phobos saved; cp -a disk.A/borg savedborg; (cd disk.A; eval "$2"); umount disk.A
            SECONDS=0; code=0; ext "${@:3}" >out 2>&1 || code=$?; cat out; test $SECONDS -lt 20
            if [ "$1" = green ]; then test $code = 0; else test $code = 65; fi
            test "$(digest)" = "$before"; safe A; never grep -q $'\x1b' out
            mount "$A" disk.A; rm -rf disk.A/.phobos disk.A/borg disk.A/HOW*; mv saved disk.A/.phobos; mv savedborg disk.A/borg; umount disk.A
        }
        hostile refused "rm -r .phobos; ln -s $STORY/victim .phobos"
        hostile refused "rm .phobos/drive.json; ln -s $STORY/victim/drive.json .phobos/drive.json"
        hostile refused "rm .phobos/drive.json; mkfifo .phobos/drive.json"
        hostile refused "rm .phobos/drive.json; ln -s /dev/zero .phobos/drive.json"
        hostile refused "truncate -s 8G .phobos/drive.json"
        hostile refused "printf '{\"version\":1,\"repository\":\"\\\\u001b[2J\",\"drive\":\"A\",\"transaction\":null,\"mirrored\":null}' >.phobos/drive.json"
        hostile refused "rm -r borg/data; ln -s $STORY/victim borg/data"
        hostile refused "rm -r borg; ln -s $STORY/victim borg"
        hostile refused "rm borg/config; mkfifo borg/config"
        hostile green "ln -s $STORY/victim .phobos/incoming; rm -f HOW-TO-RESTORE.txt; ln -s $STORY/victim/x HOW-TO-RESTORE.txt"
        hostile green "ln -s $STORY/victim/x .phobos/run.json.new; rm -rf .phobos/generation; ln -s $STORY/victim .phobos/generation"
        ext; sound A
        "#,
    );
}

#[test]
fn foreign_names_are_left_alone_and_refused_at_adoption() {
    tell(
        r#"
        backup_disk; drive A; ext
        mount "$A" disk.A; mkdir disk.A/wedding; echo photo >disk.A/wedding/1; umount disk.A
        expect 0 "left alone on the drive, because phobos did not put it there: wedding" ext
        mount "$A" disk.A; test -s disk.A/wedding/1; rm -r disk.A/.phobos disk.A/HOW*; umount disk.A
        before=$(content A)
        expect 65 "such as wedding" ext; test "$(content A)" = "$before"; safe A
        "#,
    );
}

/// A run that was killed is not believed: size and time prove nothing about what it wrote.
#[test]
fn what_a_killed_run_wrote_is_copied_again() {
    tell(
        r#"
        backup_disk; drive A 400; ns
        inside sh -c 'head -c 100000000 /dev/urandom >/backup/holding/luv/film; head -c 5000 /dev/urandom >/backup/holding/luv/a'
        phobos-ext --config "$CONFIG" >running 2>&1 & run=$!; until pgrep -x rsync >/dev/null; do kill -0 $run; done
        kill -KILL $run; wait $run || true; while pgrep -x rsync >/dev/null; do :; done
        ext --drive A close; safe A
        # The kernel has lost what it wrote, and size and time are right.
        mount "$A" disk.A; test -s disk.A/.phobos/run.json; mkdir -p disk.A/holding/luv
        time=$(inside stat -c @%.9Y /backup/holding/luv/a); head -c 5000 /dev/zero >disk.A/holding/luv/a; touch -d "$time" disk.A/holding/luv/a
        umount disk.A
        expect 0 "an earlier run did not prove" ext
        mount "$A" disk.A; cmp disk.A/holding/luv/a <(inside cat /backup/holding/luv/a); test ! -e disk.A/.phobos/run.json; umount disk.A
        sound A
        "#,
    );
}

#[test]
fn an_rsync_that_lies_is_found_out_and_a_lost_mount_ends_the_run() {
    tell(
        r#"
        backup_disk; drive A 400; ns; real=$(command -v rsync); cp "$real" real-rsync
        fake() { printf '#!/bin/sh\n%s\n' "$1" >fake; chmod 755 fake; mount --bind fake "$real"; }
        fake 'exit 0'
        expect 1 "rsync said that everything is copied, but" ext; safe A
        umount "$real"; ext; sound A; before=$(content A)
        inside borg create /backup/borg::two /etc/hostname
        fake "$STORY/real-rsync \"\$@\"; umount -l /extbackup; mount -t tmpfs tmpfs /extbackup"
        expect 65 "/extbackup is not $A but tmpfs" ext
        umount "$real"; inside umount /extbackup || true; ext --drive A close || true
        fake "$STORY/real-rsync \"\$@\"; umount -l /backup"
        expect 1 "/backup is not mounted any more" ext
        umount "$real"; ns remove
        mount "$A" disk.A; never borg list disk.A/borg::two; umount disk.A; sound A
        ext; sound A
        "#,
    );
}

#[test]
fn the_generation_before_is_a_whole_repository() {
    tell(
        r#"
        backup_disk; drive A; ext; inside borg create /backup/borg::two /etc/hostname
        inside borg delete /backup/borg::one; inside borg compact --threshold 1 /backup/borg
        code=0; ext || code=$?; if [ $code = 65 ]; then ext --accept "$(phobos-ext --config "$CONFIG" 2>&1 | grep -o 'accept [0-9a-f]*$' | cut -d' ' -f2)"; fi
        mount "$A" disk.A; borg check disk.A/borg; never borg list disk.A/borg::one
        before=$(echo disk.A/.phobos/generation/*); export BORG_BASE_DIR=$STORY/another; borg check "$before"; borg extract --dry-run "$before::one"
        test "$(stat -c %a disk.A/.phobos)" = 700; test -s disk.A/HOW-TO-RESTORE.txt; umount disk.A
        "#,
    );
}

#[test]
fn a_place_behind_a_link_is_used_where_it_is() {
    tell(
        r#"
        backup_disk; drive A; mkdir real; ln -s "$STORY/real" place; sed -i "1i [external]\nmount = \"$STORY/place\"\n" "$CONFIG"
        expect 0 finished ext; safe A; sound A
        expect 0 finished ext; safe A
        "#,
    );
}

#[test]
fn the_backup_disk_itself_and_a_file_system_with_errors_are_no_drive() {
    tell(
        r#"
        backup_disk; ns; printf '[led]\ndevice = "none"\n[[external.drive]]\nname = "own"\ndevice = "%s"\n' "$bdisk" >"$CONFIG"
        expect 65 "is the disk of the backups itself" ext
        inside ls -A /backup | never grep phobos
        printf '[led]\ndevice = "none"\n' >"$CONFIG"; drive A
        ext; debugfs -w -R "ssv state 2" "$A"
        expect 65 "is marked as one with errors" ext; safe A
        "#,
    );
}

#[test]
fn sparse_files_stay_sparse_and_what_rsync_keeps_in_attributes_comes_along() {
    tell(
        r#"
        backup_disk; drive A; ns
        inside sh -c 'truncate -s 3G /backup/holding/luv/hole; setfattr -n user.rsync.%stat -v "100711 0,0 1234:2345" /backup/holding/luv/photo'
        export RSYNC_RSH=/bin/false RSYNC_CHECKSUM_LIST=none
        ext; mount "$A" disk.A
        test "$(stat -c %s disk.A/holding/luv/hole)" = 3221225472
        test "$(getfattr --only-values -n user.rsync.%stat disk.A/holding/luv/photo)" = "100711 0,0 1234:2345"
        umount disk.A; safe A; sound A
        "#,
    );
}

#[test]
fn another_partition_in_use_is_not_green() {
    tell(
        r#"
        backup_disk; truncate -s 300M P.img; P=$(losetup --find --show P.img); echo "$P" >>loops
        addpart "$P" 1 2048 300000; addpart "$P" 2 302048 300000; name=${P#/dev/}
        for i in 1 2; do n=$(cat /sys/class/block/${name}p$i/dev); test -b ${P}p$i || mknod ${P}p$i b ${n%:*} ${n#*:}; mkfs.ext4 -q ${P}p$i; done
        printf '[[external.drive]]\nname = "P"\ndevice = "%sp1"\n' "$P" >>"$CONFIG"
        mkdir disk.films; mount "${P}p2" disk.films
        code=0; ext >out 2>&1 || code=$?; cat out
        umount disk.films; green=0; ext || green=$?
        delpart "$P" 1; delpart "$P" 2; rm -f "${P}p1" "${P}p2"
        test $code = 1; grep "${P}p2 is still in use" out; test $green = 0
        "#,
    );
}

#[test]
fn the_line_on_the_drive_gives_pulled_files_back_as_they_were() {
    tell(
        r#"
        backup_disk; drive A; ns
        # As phobos-pull leaves what it pulls: a file of 1234:2345 with a set-user-ID bit, and a link, both of the host's own user.
        inside sh -euc 'cd /backup/holding/luv; printf ../photo >link; chmod 600 photo link; chown 70000:70000 . photo link
            setfattr -n user.rsync.%stat -v "104711 0,0 1234:2345" photo; setfattr -n user.rsync.%stat -v "120777 0,0 1:2" link'
        ext; mount "$A" disk.A; mkdir back
        line=$(grep -o 'rsync -aHAX .*' disk.A/HOW-TO-RESTORE.txt)
        bash -c "$(sed "s#/mnt/holding/HOST/#$STORY/disk.A/holding/luv/#; s#/tmp/back/#$STORY/back/#" <<<"$line")"
        test "$(stat -c '%a %u:%g' back/photo)" = "4711 1234:2345"; cmp back/photo disk.A/holding/luv/photo
        test "$(readlink back/link)" = ../photo; test "$(stat -c %u:%g back/link)" = 1:2
        umount disk.A
        "#,
    );
}
