# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv; client nuhc; awkward luv/home; echo long >luv/home/jon/two; mkdir luv/home/srv; echo x >luv/home/srv/x
find luv/home -newermt '1 hour ago' -exec touch -hd '1 hour ago' {} +
chmod 711 luv/home; pull luv 2>/dev/null; pull luv; tree luv/home >before; touch -r luv/home asof; touch -r luv/home/srv srv.asof; chmod 755 luv/home; chmod 700 luv/home/srv
all=(/home/jon /home/absolute /home/pipe /home/sparse /home/closed $'/home/\xff\xfe\e[2J')
# as_before: it has what it had; the folders that were there have kept their rights.
as_before() {
    test "$(stat -c %a luv/home luv/home/srv | tr '\n' ' ')" = "755 700 "; chmod 711 luv/home; chmod 755 luv/home/srv; touch -r asof luv/home; touch -r srv.asof luv/home/srv
    tree luv/home >after; diff -a before after | head; cmp before after; chmod 755 luv/home; chmod 700 luv/home/srv
}
# to_luv PATH… [OPTION…]: gives them back into its /home. let_write [OPTION…]: lets us write there; the pull's own line stays.
to_luv() { pull restore luv "$@" --to luv:/home; }
let_write() { let_in luv "$RRSYNC"; pull authorize luv --restore "$@" >line; cat line >>luv.keys; }

# Nothing may write there until somebody lets it; a pull's key cannot.
expect 78 'run `phobos-pull authorize luv --restore`' to_luv /home/jon
pull authorize luv --restore >line; cat line
grep -E '^restrict,expiry-time="[0-9]{8}",command="rrsync -wo -no-del -no-overwrite /" ssh-ed25519 ' line; test "$(stat -c %a keys/restore-luv)" = 600
expect 1 'it does not let phobos-pull in: ' to_luv /home/jon; grep -F 'put the line that `phobos-pull authorize luv --restore` prints there' out
expect 2 "goes back to luv only" pull restore luv /home/jon --to nuhc:/home
expect 2 "without .." pull restore luv /home/jon --to luv:/home/../etc; expect 2 "with a / in front" pull restore luv /home/jon --to luv:home

# All of it is there again as it was, and whatever was there stays: files, folders with their rights, and what is of another kind.
let_write; rm -rf luv/home/jon luv/home/absolute luv/home/pipe luv/home/sparse luv/home/closed luv/home/$'\xff\xfe\e[2J'
expect 0 "" to_luv /home/jon /home/absolute --dry-run; grep -E '^-rwsr-x--x +4711 +4712 .* jon/one$' out; grep -E '^lrwxrwxrwx .* absolute -> /etc/passwd$' out
test ! -e luv/home/jon; test -s keys/restore-luv
expect 0 "luv: gave back " to_luv "${all[@]}" /home/srv --privileged
grep -F "the key that could write there is gone" out; test ! -e keys/restore-luv; test ! -e keys/restore-luv.pub
as_before
expect 78 "nothing may write on luv" to_luv /home/jon
let_write; rm -r luv/home/jon/d; echo "a file" >luv/home/jon/d; expect 1 "Not a directory" to_luv /home/jon; grep -x "a file" luv/home/jon/d; rm luv/home/jon/d
echo mine >luv/home/jon/two; rm luv/home/srv/x; touch -d 2001-02-03 luv/home/jon/two; before=$(stat -c '%i %Y %a %u' luv/home/jon/two)
expect 0 "" to_luv /home/jon --dry-run; grep -E ' jon/two  \(there already' out; grep -E ' jon/d/uno$' out; to_luv /home/jon --dry-run --json | grep -c '"left": true' | grep -x 2
expect 0 "left as it was, because it was there: " to_luv /home/jon /home/srv; grep -F "jon/two" out; test -d luv/home/jon/d
test "$(stat -c '%i %Y %a %u' luv/home/jon/two)" = "$before"; test "$(stat -c %a luv/home/srv)" = 700; grep -x x luv/home/srv/x
# A host that asks for more than is given to it gets nothing at all.
let_write; hex() { echo "$1" | od -An -tx1 | tr -d ' \n'; }
printf '#!/bin/sh\nexec "%s/a-client-that-lies" %s=%s -- $SSH_ORIGINAL_COMMAND\n' "$STORY" "$(hex 'jon/two exists')" "$(hex '<f+++++++++ ..')" >lie; chmod 755 lie; chmod 711 .
sed -i "s|command=\"rrsync -wo[^\"]*\"|command=\"$STORY/lie\"|" luv.keys; expect 65 "luv asks for what nobody wants to give it: .." to_luv /home/jon /home/srv
# Nothing is written through a link in the place of a folder, with a word neither.
mkdir luv/home/other; rm -r luv/home/jon/d; ln -s ../other luv/home/jon/d
for words in "" --overwrite; do
    # shellcheck disable=SC2086 # One word or none.
    let_write $words; to_luv /home/jon $words >said.link 2>&1; cat said.link; grep -F "because it was there: " said.link; test -z "$(ls luv/home/other)"
done
rm luv/home/jon/d; rmdir luv/home/other; echo mine >luv/home/jon/two
# Into a folder that is yet to be made, with all names of a file.
let_write; expect 0 "gave back" to_luv /home/jon/d; configure luv "source = ['root@luv:/home/']" "root = '/home'"; let_write; grep -F ' /home" ' line
# An rrsync that is still at work in the folder is waited for, and not for ever.
if [ "${PHOBOS_LONG:-}" ]; then
    exec 9<luv/home; flock 9
    expect 75 "another rsync writes there with a restricted key; try again when it is done" pull restore luv /home/jon --to luv:/home/new
    exec 9<&-
fi
flock luv/home sh -c ': >taken; exec sleep 2' & until [ -e taken ]; do sleep 0.05; done
expect 0 "gave back" pull restore luv /home/jon --to luv:/home/new; test "$(stat -c %h luv/home/new/jon/one)" = 2; test luv/home/new/jon/one -ef luv/home/new/jon/d/uno
rm -r luv/home/new luv/home/d; mkdir luv/home/jon/d; ln luv/home/jon/one luv/home/jon/d/uno; configure luv "source = ['root@luv:/home/']"
# Replaced is what somebody has let us replace, and with a word here; never something of another kind.
let_write; expect 0 "" to_luv /home/jon --overwrite; grep -x mine luv/home/jon/two
let_write --overwrite; never grep no-overwrite line; rm luv/home/pipe; mkdir luv/home/pipe
expect 0 "left as it was, because it was there: " to_luv /home/jon /home/pipe --overwrite; grep -E "was there: .*pipe" out; grep -x long luv/home/jon/two; rmdir luv/home/pipe
# Without a word no rights come with it.
let_write; rm luv/home/jon/one; expect 0 "not given back as the host has it: one (runs as its owner no more)" to_luv /home/jon/one
test "$(stat -c '%a %u' luv/home/one)" = "751 4711"; rm luv/home/one

# From a drive, which is closed again, and from an archive, which leaves nothing where it was extracted.
drive A 200; ext --drive A; safe A
rm -rf luv/home/jon; let_write; expect 0 "gave back" to_luv "${all[@]}" --from drive A --privileged; safe A; as_before
export CREDENTIALS_DIRECTORY=$STORY/credentials
mkdir credentials scratch; chmod 700 scratch; printf 'the passphrase\n' >credentials/borg-passphrase
inside sh -c 'rm -r /backup/borg; export BORG_PASSPHRASE="the passphrase"; borg init -e repokey /backup/borg; borg create /backup/borg::nas-1 /backup/holding'
rm -rf luv/home/jon luv/home/$'\xff\xfe\e[2J'; let_write
expect 0 "" env TMPDIR="$STORY/scratch" phobos-pull --config "$CONFIG" restore luv /home/jon --from archive nas-1 --to luv:/home --dry-run
grep -E ' jon/one$' out; test ! -e luv/home/jon; test -z "$(ls -A scratch)"
expect 0 "gave back" env TMPDIR="$STORY/scratch" phobos-pull --config "$CONFIG" restore luv /home/jon $'/home/\xff\xfe\e[2J' --from archive nas-1 --to luv:/home --privileged
as_before; test -z "$(ls -A scratch)"
# Where no space is left that belongs to somebody, and while another program of nobody's is at work, which nothing is done to.
setpriv --reuid=65534 --regid=65534 --clear-groups sleep 1000 & sleeper=$!
inside mv $HOLDING/luv $HOLDING/.aside; rm luv/home/jon/two; let_write
expect 1 "say so in TMPDIR" env TMPDIR=/nowhere phobos-pull --config "$CONFIG" restore luv /home/jon/two --from archive nas-1 --to luv:/home/jon
expect 0 "gave back" env TMPDIR="$STORY/scratch" phobos-pull --config "$CONFIG" restore luv /home/jon/two --from archive nas-1 --to luv:/home/jon
grep -x long luv/home/jon/two; kill $sleeper; inside mv $HOLDING/.aside $HOLDING/luv

# One that is stopped leaves nothing under a final name that is not whole, and no process; the key is good for the next one.
big_file luv film; pull luv 2>/dev/null; rm luv/home/film; echo "bandwidth-limit = '600KiB'" >>pull.d/luv.toml; let_write
phobos-pull --config "$CONFIG" restore luv /home/film --to luv:/home >out 2>&1 & job=$!
until find luv/home -name '.film.*' -size +100k | grep -q .; do kill -0 $job; sleep 0.02; done
kill -TERM $job; code=0; wait $job || code=$?; cat out; test $code = 143; test ! -e luv/home/film; test -s keys/restore-luv
if pgrep -u "$(owner luv)"; then echo "story: something of the host's user is left"; exit 1; fi
lent() { find /run/phobos/pull -name '.luv[.+]restore*'; }
test -z "$(lent)"
# One that is killed leaves its key, until the next pull has the host to itself.
phobos-pull --config "$CONFIG" restore luv /home/film --to luv:/home >out 2>&1 & job=$!
until lent | grep -q '[.]key$' && find luv/home -name '.film.*' -size +100k | grep -q .; do kill -0 $job; sleep 0.02; done
kill -KILL $job; wait $job || true; lent | grep '[.]key$'; ended -u "$(owner luv)"; test ! -e luv/home/film
pull luv --dry-run; test -z "$(lent)"; test -s keys/restore-luv
# What nothing is extracted into need not be there.
expect 0 "" env TMPDIR=/nowhere phobos-pull --config "$CONFIG" restore luv /home/film --to luv:/home --dry-run
sed -i /bandwidth/d pull.d/luv.toml; expect 0 "gave back 6 MB" to_luv /home/film

# What rsync alone would take for a device is left out.
for lie in '20666  1,3 0:0' ' 20666 1,3 0:0' '20666 1,3 0:0x'; do
    inside sh -c "cd $HOLDING/luv/home; echo x >lie; chown $(owner luv):$(owner luv) lie; setfattr -n user.rsync.%stat -v '$lie' lie"
    let_write; expect 0 "lie (what it is cannot be understood, left out)" to_luv /home/lie; test ! -e luv/home/lie
done
inside rm $HOLDING/luv/home/lie
# Without a word no capabilities come either.
cp /usr/bin/true luv/home/cap; capability='security.capability=0x0100000200200000000000000000000000000000'
setfattr -n ${capability%%=*} -v ${capability#*=} luv/home/cap; setfattr -n user.colour -v blue luv/home/cap; pull luv
for words in "" --privileged; do
    let_write; rm luv/home/cap
    # shellcheck disable=SC2086 # One word or none.
    to_luv /home/cap $words; getfattr -d -m - -e hex luv/home/cap >got; grep user.colour got
    if [ "$words" ]; then grep -x $capability got; else never grep security got; fi
done
grep -c '"job":"restore","object":"luv".*"exit":0,"bytes":' /var/lib/phobos/history.jsonl
