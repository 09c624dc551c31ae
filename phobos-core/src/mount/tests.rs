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
    let both = parse("22 1 254:0 / / rw shared:12 master:1 - ext4 /dev/vda rw\n23 1 254:0 / / rw master:1 - ext4 x rw")
        .unwrap();
    assert_eq!(
        both.iter().map(|entry| (entry.propagates, entry.peers)).collect::<Vec<_>>(),
        [(true, Some(12)), (true, None)]
    );
    assert_eq!((private.peers, parse("").unwrap().len()), (None, 0));
    assert!(parse("what is this").is_err());
}

/// Lines of Linux 6.18.
#[test]
fn a_file_system_with_a_number_of_its_own_is_on_a_disk_too() {
    let text = "\
563 514 0:78 / /media/b rw,relatime - btrfs /dev/loop7 rw,discard=async,space_cache=v2,subvolid=5,subvol=/
562 514 7:7 / /media/x rw,relatime - xfs /dev/loop7 rw,inode64,logbufs=8,logbsize=32k,noquota
30 22 0:27 / /run rw shared:5 - tmpfs tmpfs rw,mode=755
31 22 0:6 / /dev rw shared:6 - devtmpfs udev rw,size=2014720k
32 22 0:41 / /tank rw shared:7 - zfs tank rw,xattr,noacl
33 22 0:45 / /mnt/two rw shared:8 - bcachefs /dev/sdb:/dev/sdc rw
34 22 0:50 / /srv/nfs rw shared:9 - nfs4 server:/srv rw
";
    let table = parse(text).unwrap();
    let on_disk = table.iter().filter(|entry| entry.is_on_disk()).map(|entry| entry.target.to_str().unwrap());
    assert_eq!(on_disk.collect::<Vec<_>>(), ["/media/b", "/media/x", "/tank", "/mnt/two"]);
}

#[test]
fn fuzz_mountinfo() {
    phobos_fuzz::target("mountinfo", &[b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n31 1 8:1 / /a\\040b rw shared:3 - ext4 /dev/sda1 rw,errors=remount-ro\n"], |input| {
        let text = String::from_utf8_lossy(input);
        drop(parse(&text));
    });
}
