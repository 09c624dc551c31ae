# Fifty thousand files, and with PHOBOS_LONG two hundred thousand.
#
# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

count=50000
if [ "$PHOBOS_LONG" ]; then count=200000; fi
# So many files are made, read and removed faster where each fits into its inode.
disk home 1000; mkdir chew; mount "$home" chew
disk back 1000; mkdir chew/back; mount "$back" chew/back
client chew
mkdir chew/home/{1..200}
(cd chew/home && seq $count | awk '{ file = ($1 % 200 + 1) "/" $1; print $1 >file; close(file) }')
expect 0 "chew: copied $count files with " pull chew
inside rsync -aHAX --numeric-ids --fake-super -M--super $HOLDING/chew/ "$STORY/chew/back/"
list() { (cd "$1/home" && find . -printf '%P %y %m %u %g %T@ %l\n' | sort; find . -type f -print0 | sort -z | xargs -0 cat); }
list chew >is; list chew/back >was
cmp is was
expect 0 "chew: copied 0 files with 0 B, deleted 0" pull chew
umount -l chew
