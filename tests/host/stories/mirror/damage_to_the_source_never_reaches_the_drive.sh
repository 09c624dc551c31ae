# Damage of many kinds to the source: refused with 65, and the drive is bit for bit as before.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

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
damaged "differ from the copy's and are damaged" 'printf damaged | dd of=$big bs=1 seek=200000 conv=notrunc'
damaged "differ from the copy's and are damaged" 's=$(stat -c %s $big); rm $big; truncate -s $s $big'
damaged "differ from the copy's and are damaged" 'head -c 5000 /dev/urandom >>$big'
damaged "in which its last transaction ended, is missing or does not end with a commit" 'truncate -s -4 $new'
damaged "" 'rm $big'
damaged "" 'rm $new'
damaged "no Borg repository" ': >config'
damaged "is a symbolic link" 'mv data d2; ln -s d2 data'
damaged "is a symbolic link" 'mv $big /backup/away; ln -s /backup/away $big; rm -rf /backup/away'
damaged "is a symbolic link" 'ln -s nowhere data/1'
damaged "is a symbolic link" 'ln -s nowhere data/0/999'
damaged "it has no folder" 'mv data gone'
damaged "is a FIFO" 'rm $big; mkfifo $big'
damaged "" 'rm -r data/*'
damaged "overwritten or encrypted by something that is not Borg" 'for file in data/0/*; do if [ $file != $new ]; then s=$(stat -c %s $file); head -c $s /dev/urandom >$file; fi; done'
damaged "is no segment of Borg, and so are" 'for file in data/0/*; do mv $file $file.enc; done'
damaged "luv is gone or empty" 'rm -rf /backup/holding/luv'
