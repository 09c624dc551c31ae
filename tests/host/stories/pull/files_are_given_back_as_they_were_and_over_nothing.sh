# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv; client nuhc
home=luv/home; mkdir -p $home/jon/d
echo one >$home/jon/one; ln $home/jon/one $home/jon/d/uno; ln $home/jon/one $home/jon/eins
setfacl -m u:4711:rwx,g:4712:r $home/jon/one; setfacl -d -m u:4711:rx $home/jon/d
setfattr -n user.colour -v blue $home/jon/d; setfattr -n user.bytes -v 0x00ff0a $home/jon/one
truncate -s 32M $home/sparse; echo end >>$home/sparse
chown -R 4711:4712 $home/jon; chmod 4751 $home/jon/eins; chmod 1777 $home/jon/d
ln -s /etc/passwd $home/absolute; ln -s nothing $home/dangling; mkfifo $home/pipe
mkdir $home/closed; echo x >$home/closed/x; chmod 000 $home/closed/x $home/closed
home=nuhc/home; big_file nuhc big
touch $home/$'new\nline' $home/$'\xff\xfe' $home/-rf $home/'a*b?[c]' $home/$'\e[2J'; echo text >$home/-rf
deep=$home; for _ in $(seq 60); do deep=$deep/deep; done; mkdir -p $deep; echo deep >$deep/er
devices luv/home
find luv/home nuhc/home -newermt '1 hour ago' -exec touch -hd '1 hour ago' {} +
# Where a folder has attributes too, rsync adds its default ACL only the second time.
pull --all 2>/dev/null; pull luv 2>/dev/null

# Whole trees, as root, are what the clients have; the set-user-ID bit only after a word.
mkdir back all
expect 0 "luv: gave back " pull restore luv /home --to back --privileged
tree luv/home >is; tree back/home >was; diff -a is was | head; cmp is was
test "$(stat -c %b back/home/sparse)" -lt 100
grep -F "disk 7:c8" was; grep -F "tty 4:40" was
mkdir none; expect 0 "disk (a device, left out)" pull restore luv /home --to none; test ! -e none/home/tty
# Whoever is not root learns that, and gets nothing.
mkdir -m 777 users; chmod 711 "$STORY"
expect 77 "only root can do this" setpriv --reuid=65534 --regid=65534 --clear-groups phobos-pull --config "$CONFIG" restore luv /home --to users
test -z "$(ls -A users)"
expect 0 "gave back " pull restore nuhc / --to all
tree nuhc/home >is; tree all/home >was; cmp is was
# Some by their names, whatever they are.
mkdir some
pull restore nuhc /home/-rf /home/$'\xff\xfe' /home/$'new\nline' '/home/a*b?[c]' --to some
test "$(find some -mindepth 1 -printf x)" = xxxx; cmp some/-rf nuhc/home/-rf
# One line from a terminal, into the folder that one is in.
(mkdir here; cd here; pull restore luv /home/jon/one; cmp one ../luv/home/jon/one)

# What there is; nothing in a name reaches the terminal.
pull restore luv --list /home/jon >out; grep -E '^-rws.* 4711 +4712 .* eins$' out; grep -E '^drwx.* d$' out
pull restore luv --list /home | grep -E '^lrwxrwxrwx .* absolute -> /etc/passwd$'
pull restore nuhc --list /home >out; grep -F 'u{1b}[2J' out; grep -F 'new\nline' out
pull restore luv --list --json >out; tr -d ' \n' <out | grep '^{"schema_version":1,"files":\[{"name":"home","mode":"drwx'

# Nothing is replaced but on a word, and what is left is named; a dry run says so before and changes nothing.
echo mine >some/-rf; touch -d 2001-02-03 some/-rf; before=$(stat -c "%i %Y %a" ./some/-rf; ls -A some)
pull restore nuhc /home/-rf --to some --dry-run | grep -E ' -rf  \(there already'
expect 0 "left as it was, because it was there: -rf;" pull restore nuhc /home/-rf --to some
test "$(stat -c "%i %Y %a" ./some/-rf; ls -A some)" = "$before"
expect 0 "1 put in place" pull restore nuhc /home/-rf --to some --overwrite
cmp some/-rf nuhc/home/-rf
# What is in folders that are there is put beside what is in them.
rm -rf all/home/deep/deep/deep all/home/big; expect 0 "left 5" pull restore nuhc /home --to all
find nuhc/home -printf '%P %s %n\n' | sort >is; find all/home -printf '%P %s %n\n' | sort >was
test "$(grep -c deep is)" = "$(grep -c deep was)"; cmp nuhc/home/big all/home/big

# Links that somebody has planted lead nowhere: in the target, as the target, in the holding space.
mkdir elsewhere planted; ln -s "$STORY/elsewhere" planted/jon; ln -s elsewhere link
expect 0 "left as it was, because it was there: jon;" pull restore luv /home/jon --to planted --overwrite
expect 65 "name a folder that is there, and no link to it" pull restore luv /home/jon --to link
test -z "$(ls elsewhere)"
inside ln -s /etc $HOLDING/luv/planted
expect 65 "planted" pull restore luv /planted/passwd --to elsewhere
# Attributes that lie: no device and no program of root's comes of them.
inside sh -euc "cd $HOLDING/luv; for name in null root; do echo x >\$name; chown $(owner luv):$(owner luv) \$name; done
    setfattr -n user.rsync.%stat -v '20666 1,3 0:0' null; setfattr -n user.rsync.%stat -v '106755 0,0 0:0' root
    setfattr -n user.rsync.%stat -v '40777 0,0 4711:0' ."
mkdir lies; expect 0 "null (a device, left out)" pull restore luv / --to lies
grep -F 'root (runs as its owner no more)' out
test ! -e lies/null; test "$(stat -c '%a %u' lies/root)" = "755 0"; test "$(stat -c '%U' lies)" = root
expect 0 "gave back " pull restore luv /root /home/jon/eins --to elsewhere
test "$(find elsewhere -perm /6000 -printf x)" = ""
# What is not there, or no path of the host's.
expect 66 "luv has no /home/jim in its holding space" pull restore luv /home/jim --to elsewhere
expect 2 "give the path without .." pull restore luv /home/../../../etc/passwd --to elsewhere
expect 2 "with a / in front" pull restore luv home --to elsewhere
expect 2 "would have the same name" pull restore luv /home/jon/one /home/one --to elsewhere

# Killed at any moment: nothing under its final name is in part, and the next one clears up.
RANDOM=${PHOBOS_SEED:-$$}; mkdir killed
for _ in $(seq 8); do
    rm -rf killed/home
    phobos-pull --config "$CONFIG" restore nuhc /home --to killed 2>/dev/null &
    sleep 0.$((RANDOM % 4))$((RANDOM % 10)); kill -9 $! 2>/dev/null || true; wait $! 2>/dev/null || true
    test ! -e killed/home || { tree nuhc/home >is; tree killed/home >was; cmp is was; }
done
until rm -rf killed/home; pull restore nuhc /home --to killed 2>/dev/null; test -z "$(find killed -name '.phobos-restore-*')"; do :; done
tree nuhc/home >is; tree killed/home >was; cmp is was
# While a pull writes, no restore reads; it is in the history, and on the light only where it failed.
ns exec --job other --lock holding/luv -- sh -c ': >held; until [ -e over ]; do sleep 0.05; done' &
until [ -e "$STORY/held" ] || [ -e held ]; do kill -0 $!; sleep 0.05; done
expect 75 "" pull --lock-wait 100ms restore luv /home/jon --to elsewhere
touch over; wait $!
grep -c '"job":"restore","object":"luv".*"exit":0,"bytes":' /var/lib/phobos/history.jsonl
