//! Stories of the namespace: how it is made, and every way in which it is refused.

use crate::miniature::tell;

#[test]
fn it_is_made_once_and_invisible_outside() {
    tell(
        r#"
        backup_disk
        expect 0 "made the namespace /run/phobos/ns/backup" ns
        expect 0 "" ns
        test ! -s out
        test "$(stat -c %a /run/phobos/ns)" = 700
        test "$(findmnt -no PROPAGATION /run/phobos/ns | head -1)" = private
        never outside_sees /backup
        test -z "$(ls -A /backup)"
        inside test -f /backup/borg/config
        inside phobos-ns --config "$CONFIG"
        "#,
    );
}

#[test]
fn calls_at_once_make_one() {
    tell(
        r#"
        backup_disk
        for i in 1 2 3 4 5 6 7 8; do ns & pids="${pids:-} $!"; done
        for pid in $pids; do wait "$pid"; done
        test "$(grep -c " $NS " /proc/self/mountinfo)" = 1
        test "$(inside grep -c ' /backup ' /proc/self/mountinfo)" = 1
        "#,
    );
}

#[test]
fn a_plain_file_is_used_and_a_dead_namespace_is_replaced() {
    tell(
        r#"
        backup_disk
        mkdir -p /run/phobos/ns; touch $NS
        ns; inside test -f /backup/borg/config
        umount $NS
        mount --bind /proc/self/ns/net $NS
        expect 0 "keeps no mount namespace that can be entered" ns
        inside test -f /backup/borg/config
        inside umount /backup
        ns; inside test -f /backup/borg/config
        umount $NS; rm $NS; mkdir $NS
        expect 78 "$NS is not a plain file; move it away" ns
        "#,
    );
}

#[test]
fn a_backup_that_everybody_can_see_is_refused() {
    tell(
        r#"
        backup_disk
        mount /backup
        expect 65 "/backup is mounted outside the namespace, where everybody can see it; run \`umount /backup\`" ns
        umount /backup
        ns
        mount /backup
        expect 65 "/backup is mounted outside the namespace" ns
        "#,
    );
}

#[test]
fn without_fstab_entry_or_disk_nothing_is_kept() {
    tell(
        r#"
        expect 78 "no entry for /backup in /etc/fstab; add one with the option noauto" ns
        test "$(stat -fc %T $NS)" != nsfs
        echo "/dev/no-such-disk /backup ext4 noauto 0 0" >fstab
        expect 1 "cannot mount /backup in the namespace: \`mount" ns
        test "$(stat -fc %T $NS)" != nsfs
        "#,
    );
}

#[test]
fn in_a_namespace_of_its_own_it_says_so() {
    tell(
        r#"
        backup_disk
        expect 78 "this process runs in a mount namespace of its own" unshare --mount phobos-ns --config "$CONFIG"
        ns
        expect 78 "remove PrivateTmp=" unshare --mount phobos-ns --config "$CONFIG"
        expect 77 "only root can do this" setpriv --reuid 65534 --clear-groups "$STORY/phobos-ns"
        "#,
    );
}

#[test]
fn it_pins_nothing_that_was_mounted_when_it_was_made() {
    tell(
        r#"
        backup_disk
        disk ipod 20; disk stick 20
        mount "$ipod" disk.ipod
        mount "$stick" disk.stick; mount --make-private disk.stick
        ns
        umount disk.ipod; umount disk.stick
        # Only the kernel knows whether somebody still has a file system open: ext4 can be checked only when nobody has.
        e2fsck -fn "$ipod"; free "$ipod"; free "$stick"
        "#,
    );
}
