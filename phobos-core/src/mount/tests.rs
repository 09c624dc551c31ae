//! Tables of mounts as the kernel and fstab write them.

use super::*;

const MOUNTINFO: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:27 / /run rw shared:5 - tmpfs tmpfs rw,mode=755
41 30 0:27 /phobos/ns /run/backups/ns rw - tmpfs tmpfs rw
55 22 253:0 / /ext\\040backup rw - ext4 /dev/mapper/extbackup rw
";

#[test]
fn mountinfo_is_read_with_its_escapes() {
    let table = parse(MOUNTINFO).unwrap();
    let drive = at(&table, Path::new("/ext backup")).unwrap();
    assert_eq!((drive.number.as_str(), drive.source.to_str()), ("253:0", Some("/dev/mapper/extbackup")));
    assert!(at(&table, Path::new("/")).unwrap().propagates);
    let private = at(&table, Path::new("/run/backups/ns")).unwrap();
    assert_eq!((private.propagates, private.root.to_str()), (false, Some("/phobos/ns")));
    assert!(parse("what is this").is_err());
}

#[test]
fn fstab_is_read_as_mount_reads_it() {
    let text = "# LABEL=no /backup ext4\nLABEL=extbackup  /extbackup/ ext4 noauto,noatime 0 2\n/dev/x /my\\040place";
    let entry = parse_fstab(text, Path::new("/extbackup")).unwrap();
    assert_eq!(entry.options, "noauto,noatime");
    assert_eq!(parse_fstab(text, Path::new("/my place")).unwrap().kind, "auto");
    assert_eq!(parse_fstab(text, Path::new("/backup")), None);
}
