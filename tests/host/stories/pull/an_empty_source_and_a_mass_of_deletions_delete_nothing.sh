# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv; mkdir luv/home/{jon,ann}; for i in $(seq 200); do echo "$i" >luv/home/jon/"$i"; done
configure luv "source = ['root@luv:/home/jon', 'root@luv:/home/ann/']"
echo a >luv/home/ann/a; echo b >luv/home/ann/b
expect 0 "luv: copied 202 files" pull luv
# A few deletions, folders among them, are made without a question; and all passes of a pull are one login.
logins() { grep -c 'Accepted publickey' luv.log; }
before=$(logins); rm luv/home/jon/{1..9}; mkdir -p luv/home/jon/d/e
expect 0 "luv: copied 0 files with 0 B, deleted 9" pull luv; test "$(logins)" = $((before + 1))
rm -r luv/home/jon/d
expect 0 "luv: copied 0 files with 0 B, deleted 2" pull luv
# Where a folder becomes a file, something has to go before the file can come.
mkdir luv/home/jon/both; touch luv/home/jon/both/x; expect 0 "" pull luv
rm -r luv/home/jon/both; echo f >luv/home/jon/both; expect 0 "" pull luv; same luv

# Ann's disk is not mounted, and Jon's is full: what Ann has is few, but all she has.
mv luv/home/ann luv/ann; mkdir luv/home/ann; echo new >luv/home/jon/new
expect 65 "everything new was copied, nothing was deleted: all 2 files in /home/ann (home/ann/" pull luv
grep 'if that is right, run `phobos-pull --allow-delete luv` once' out
test "$(mark luv state)" = refused; inside test -f $HOLDING/luv/home/jon/new; inside test -f $HOLDING/luv/home/ann/a
expect 65 "all 2 files in /home/ann" pull luv
expect 0 "luv   refused" pull list
rmdir luv/home/ann; mv luv/ann luv/home/ann; expect 0 "" pull luv; same luv

# All files get other names, as a blackmailer does it: refused, and refused again.
for file in luv/home/jon/[0-9]*; do mv "$file" "$file".locked; done
for _ in 1 2; do
    before=$(logins)
    expect 65 "nothing was deleted: 191 of 193 files in /home/jon (" pull luv; test "$(logins)" = $((before + 1))
    test "$(inside sh -c "ls $HOLDING/luv/home/jon | wc -l")" = 384
done
# What was shared is gone with the pull.
test -z "$(ls -A /run/phobos/pull)"; ended -u "$(owner luv)"; inside grep control /proc/self/mountinfo >out || true; test ! -s out
# To ask what would happen changes nothing.
expect 0 "luv: *deleting   home/jon/" pull --dry-run luv
grep "would delete nothing: 191 of " out
test "$(inside sh -c "ls $HOLDING/luv/home/jon | wc -l")" = 384
expect 0 "deleted 191" pull --allow-delete luv
same luv
# A limit of one's own.
echo 'max-delete = 3' >>pull.d/luv.toml; rm luv/home/jon/1[0-9].locked
expect 65 "10 of 193 files in /home/jon" pull luv
sed -i 's/max-delete = 3/max-delete = "6%"/' pull.d/luv.toml; expect 0 "deleted 10" pull luv; same luv
echo 'delete = false' >>pull.d/luv.toml; rm luv/home/jon/new; expect 0 "deleted 0" pull luv
inside test -f $HOLDING/luv/home/jon/new
