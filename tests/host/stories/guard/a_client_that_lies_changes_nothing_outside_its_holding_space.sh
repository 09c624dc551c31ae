# What a client sends never gets out of its holding space, and is nothing there but plain files and folders.
#
# shellcheck source=../../guard.sh
. "$HOST/guard.sh"

spaces
client luv
mkdir -p client/XX client/DQ outside; chmod 777 outside
echo evil >client/XX/evil; echo evil >client/DQ/evil; echo photo >client/photo
ln -s /etc/shadow client/absolute; ln -s ../../../../../../outside client/climbing; ln -s "$STORY/outside" client/LQ
mknod client/null c 1 3; mknod client/disk b 7 0
echo program >client/program; chmod 6755 client/program; echo odd >client/odd; chmod 751 client/odd
host luv "luv:$STORY/client/" "root = '$STORY/client'"
friend luv
expect 0 "luv: copied" pull luv
space=/backup/holding/luv$STORY/client
inert() {
    test -z "$(inside find /backup/holding/luv ! -type f ! -type d)"
    test -z "$(inside find /backup/holding/luv -perm /6000)"
    test -z "$(inside find /backup/holding/luv ! -uid 70000)"
    test -z "$(ls -A outside)"
    test "$(inside ls -A /backup/holding)" = "$(printf '.phobos\nluv')"
}
inert
# Links, modes and devices are kept beside the files: no link leads anywhere, and no device is one.
inside getfattr -n user.rsync.%stat "$space/absolute" | grep 120777
inside getfattr -n user.rsync.%stat "$space/program" | grep 106755
inside getfattr -n user.rsync.%stat "$space/null" | grep '20[0-7]* 1,3 '
inside getfattr -n user.rsync.%stat "$space/disk" | grep '60[0-7]* 7,0 '
inside test -f "$space/absolute" -a -f "$space/null" -a -f "$space/disk"; inside test ! -s "$space/null"

# Names that climb: XX becomes `..`.
liar luv 5858=2e2e
expect 1 "unsafe pathname from sender" pull luv
inert
# Names that start at the root: XX becomes /x, which is taken for a name like others.
liar luv 5858=2f78
expect 0 "luv: copied" pull luv
inside test -d "$space/x" -a ! -e /x
inert
# What was a file is said to be a device: 0100751 becomes 020751.
liar luv e9810000=e9210000
inside rm "$space/odd"
pull luv || true
inert
# What lies break off is there again after an honest pull.
liar luv; expect 0 "luv: copied" pull luv
# A link and a folder of one name, with a file to be written through it: DQ becomes LQ.
liar luv 4451=4c51
inside rm -r "$space/DQ" "$space/LQ"
pull luv || true
inert
# It is still a client like others when it stops lying.
liar luv
expect 0 "luv: copied" pull luv
inside cmp "$space/DQ/evil" "$STORY/client/DQ/evil"
inert
