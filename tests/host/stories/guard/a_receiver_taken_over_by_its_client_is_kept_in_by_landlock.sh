# The worst case: an rsync with a hole that does whatever the client says. Landlock is what stops it.
#
# shellcheck source=../../guard.sh
. "$HOST/guard.sh"

spaces
client luv; client nuhc
mkdir -p client open; chmod 777 open; echo photo >client/photo
host luv "luv:$STORY/client/"; host nuhc "nuhc:$STORY/client/"
friend luv; friend nuhc
expect 0 "nuhc: copied" pull luv nuhc
port=$nuhc own_port=$luv
neighbour=/backup/holding/nuhc$STORY/client/photo

luv=$(inside stat -c %u /backup/holding/luv); as_luv="setpriv --reuid $luv --regid $luv --clear-groups"
test "$luv" != "$(inside stat -c %u /backup/holding/nuhc)"
# Of the same user, so that only Landlock stands between them; it does not work in the space.
(cd / && exec $as_luv sleep 120) & bystander=$!
until readlink /proc/$bystander/exe | grep -q sleep; do kill -0 $bystander; done
# What the client sends, for a receiver that runs it.
cat >exploit <<-END
		try() { if sh -c "\$2" 2>/dev/null; then echo "\$1 worked" >>report; fi; }
		try "writing at home" "echo >mine"
		try "changing a neighbour" "echo evil >>../nuhc$STORY/client/photo"
		try "reading a neighbour" "cat ../nuhc$STORY/client/photo"
		try "removing a neighbour" "mv ../nuhc$STORY/client ../nuhc/gone && mv ../nuhc/gone ../nuhc$STORY/client"
		try "changing a mark" "echo evil >>../.phobos/luv.json"
		try "writing elsewhere" "echo evil >$STORY/open/proof"
		try "writing to memory" "echo evil >/dev/shm/proof"
		try "reading a key" "cat $STORY/keys/pull"
		setsid sh -c 'for n in \$(seq 200); do setsid sleep 300 & done' >/dev/null 2>&1 </dev/null &
		try "changing a neighbour's attributes" "chmod 755 ../nuhc || setfattr -n user.x -v x ../nuhc$STORY/client/photo || touch ../nuhc$STORY/client/photo"
		try "asking the network" "exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/$port'"
		try "stopping others" "kill -CONT $bystander"
		exit 12
		END
cat >hole <<-'END'
		#!/bin/bash
		for arg; do
		    case $arg in --rsh=*) rsh=${arg#--rsh=} ;; root@*:*) whom=${arg%%:*} ;; esac
		done
		eval "$rsh $whom hole" | bash
		END
chmod 755 hole . client
printf 'command="cat %s/exploit" %s\n' "$STORY" "$(cat keys/pull.pub)" >luv.keys
mount --bind hole /usr/bin/rsync

# As the same user, with the same rsync and the same client, but without Landlock: the neighbour is another user's.
cp keys/pull key; chown "$luv":"$luv" key
(umask 022; { cat passwd; echo "luv:x:$luv:$luv::/nonexistent:/bin/sh"; } >passwd.luv)
inside mount --bind "$STORY/passwd.luv" /etc/passwd
ssh="ssh -F none -p $own_port -o BatchMode=yes -o UserKnownHostsFile=$STORY/known_hosts -i $STORY/key"
inside sh -c "cd /backup/holding/luv && exec $as_luv \
    --no-new-privs rsync '--rsh=$ssh' root@luv:/ ./" || true
inside cat /backup/holding/luv/report
inside umount /etc/passwd
for what in "writing at home" \
    "writing elsewhere" "writing to memory" "asking the network" "stopping others"; do
    inside grep -x "$what worked" /backup/holding/luv/report
done
never inside grep neighbour /backup/holding/luv/report
test "$(inside cat "$neighbour")" = photo

# And as phobos-pull runs it.
inside rm /backup/holding/luv/report; rm open/proof /dev/shm/proof
(cd / && exec $as_luv sleep 120) & left=$!
until readlink /proc/$left/exe | grep -q sleep; do kill -0 $left; done
# The pull ends whatever its user has at work, before and after: what has a session of its own, too.
expect 1 "luv" pull luv
code=0; wait $left || code=$?; test $code = 137
test "$(inside cat /backup/holding/luv/report)" = "writing at home worked"
test "$(inside cat "$neighbour")" = photo
test ! -e open/proof -a ! -e /dev/shm/proof
ended -u "$luv"
wait $bystander || true
umount /usr/bin/rsync
