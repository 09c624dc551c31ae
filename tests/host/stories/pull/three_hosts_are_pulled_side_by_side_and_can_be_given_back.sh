# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv; client nuhc; client chew
# Hard links, within a folder and across; ACLs, attributes, a hole, owners that this machine has not.
home=luv/home; mkdir -p $home/jon/d
echo one >$home/jon/one; ln $home/jon/one $home/jon/d/uno; ln $home/jon/one $home/jon/eins
setfacl -m u:4711:rwx,g:4712:r $home/jon/one; setfacl -d -m u:4711:rx $home/jon/d
setfattr -n user.colour -v blue $home/jon/d; setfattr -n user.bytes -v 0x00ff0a $home/jon/one
setfattr -n trusted.secret -v mine $home/jon/one; setcap cap_net_raw+ep $home/jon/d/uno 2>/dev/null || true
truncate -s 32M $home/sparse; echo end >>$home/sparse
chown -R 4711:4712 $home/jon; chmod 4751 $home/jon/eins; chmod 1777 $home/jon/d
ln -s /etc/passwd $home/absolute; ln -s ../../../../etc $home/climbing; ln -s nothing $home/dangling
touch -h -d '1999-12-31 23:59:59.123456789' $home/dangling; touch -d '2001-02-03' $home/jon/d
mkfifo $home/pipe; mkdir $home/closed; echo x >$home/closed/x; chmod 000 $home/closed/x $home/closed
# Names that are no text, look like options, or mean something to a shell.
home=nuhc/home
touch $home/$'new\nline' $home/$'\xff\xfe' $home/-rf $home/'$(reboot)' $home/"it's" $home/'a*b?[c]' $home/' '
touch $home/$'\e[2J' $home/'back\slash' $home/'*deleting   x' $home/$'tab\t' $home/"$(printf 'n%.0s' {1..255})"
deep=$home; for _ in $(seq 60); do deep=$deep/deep; done; mkdir -p $deep; echo deep >$deep/er
# Folders within folders.
mkdir -p chew/home/{1..20}/{1..5}; for folder in chew/home/*/*; do echo "$folder" >"$folder"/file; done
# What is called like phobos's own folders is theirs all the same.
for folder in .phobos-partial .phobos-partial-0123456789abcdef .phobos-temp .phobos; do
    mkdir -p chew/home/$folder chew/home/1/$folder; echo $folder | tee chew/home/$folder/f >chew/home/1/$folder/f
done
# rsync gives a link or pipe the fraction of its second only where the second is another one than now.
find luv/home nuhc/home chew/home -newermt '1 hour ago' -exec touch -hd '1 hour ago' {} +
expect 0 "chew: copied 108 files with " pull --all --jobs 3
same nuhc; same chew
test "$(inside stat -c %b $HOLDING/luv/home/sparse)" -lt 100
# Each host's files belong to a user of its own, and nobody gets at another's.
test "$(inside stat -c %a $HOLDING)" = 711
for name in luv nuhc chew; do
    test "$(inside stat -c %a $HOLDING/$name)" = 700
    test -z "$(inside find $HOLDING/$name ! -uid "$(owner $name)" -o ! -gid "$(owner $name)")"
done
test "$(printf '%s\n' "$(owner luv)" "$(owner nuhc)" "$(owner chew)" | sort | tr '\n' ' ')" = "70000 70001 70002 "

# A second pull moves nothing.
pull --all --json >outcomes
test "$(grep -c '"files_copied": 0' outcomes)" = 3
test "$(grep -c '"bytes_copied": 0' outcomes)" = 3
test "$(grep -c '"deleted": 0' outcomes)" = 3
# Where a folder has attributes too, rsync drops its default ACL when it makes it, and adds it the next time.
for name in luv nuhc chew; do same $name; test "$(mark $name state)" = ok; done
grep -c '"job":"pull","object":"luv".*"exit":0,"bytes":' /var/lib/phobos/history.jsonl | grep -x 2
expect 0 "chew  ok" pull list
grep -E 'chew +ok +20[0-9-]+ [0-9:]+ +0 minutes +[0-9.]+ k?B +[0-9]+s +-' out
