//! Stories of who is protected from whom: the server from its clients, and the clients from the server.

use phobos_core::exec;

use crate::miniature::tell;

/// Tells a story with clients.
fn tell_of_clients(story: &str) {
    if let Err(missing) = exec::require(&["sshd", "ssh", "rrsync", "getfattr", "script", "ip"]) {
        panic!("{missing}, for instance with `cargo xtask setup`");
    }
    tell(&format!("{}\n{story}", include_str!("guard.sh")));
}

#[test]
fn a_confined_program_writes_in_its_folder_and_nowhere_else() {
    tell_of_clients(
        r#"
        # What the user could write, if nothing but file permissions stood in its way.
        mkdir open; chmod 777 open
        as_user() { (cd space/luv; setpriv --reuid phobos-pull --regid phobos-pull --clear-groups --no-new-privs -- "$@"); }
        touch known_hosts
        for elsewhere in "$STORY/open" /tmp /var/tmp /dev/shm; do
            test -d "$elsewhere" || continue
            proof=$elsewhere/proof.${STORY##*/}
            as_user touch "$proof"; rm "$proof"
            expect 1 "Permission denied" confined touch "$proof"
            test ! -e "$proof"
        done
        # The neighbour's folder belongs to the same user: only Landlock stands in the way.
        chmod 755 . space
        as_user touch "$STORY/space/nuhc/proof"; rm space/nuhc/proof
        expect 1 "Permission denied" confined touch "$STORY/space/nuhc/proof"
        as_user touch ../nuhc/proof; rm space/nuhc/proof
        expect 1 "Permission denied" confined touch ../nuhc/proof
        ln -s ../nuhc space/luv/link
        expect 1 "Permission denied" confined touch link/proof
        echo secret >space/nuhc/photo; chown phobos-pull: space/nuhc/photo
        as_user cat ../nuhc/photo >/dev/null
        expect 1 "Permission denied" confined cat ../nuhc/photo
        test ! -e space/nuhc/proof

        expect 0 "" confined touch mine
        expect 0 "" confined mkdir -p a/b
        expect 0 "" confined mv mine a/b/
        test "$(stat -c %U space/luv/a/b/mine)" = phobos-pull
        expect 1 "" confined mkfifo pipe
        expect 1 "" confined mknod device c 1 3
        printf '#!/bin/sh\n' >space/luv/program; chmod 755 space/luv/program
        expect 1 "Permission denied" confined ./program
        "#,
    );
}

#[test]
fn a_confined_program_is_nobody_and_sees_little() {
    tell_of_clients(
        r#"
        touch known_hosts
        expect 0 "uid=990(phobos-pull) gid=990(phobos-pull) groups=990(phobos-pull)" confined id
        # It cannot look into /proc, so its own view is looked at from outside.
        "${CONFINED[@]}" sleep 60 & sleeper=$!
        until readlink /proc/$sleeper/exe | grep -q sleep; do kill -0 $sleeper; done
        grep -x 'NoNewPrivs:	1' /proc/$sleeper/status
        grep -x 'CapEff:	0000000000000000' /proc/$sleeper/status
        grep -x 'Uid:	990	990	990	990' /proc/$sleeper/status
        kill $sleeper; wait $sleeper || true
        mkdir -p keys; echo secret >keys/other; chmod 644 keys/other
        expect 1 "Permission denied" confined cat "$STORY/keys/other"
        expect 1 "Permission denied" confined cat /etc/ssh/sshd_config
        expect 0 "" confined cat "$STORY/known_hosts"
        # It does not begin without the process that it must not outlive.
        expect 78 "the program that started this one has ended" phobos-pull confined --user phobos-pull --folder space/luv --parent 1000000 -- true
        # Another program of the same user.
        setpriv --reuid phobos-pull --regid phobos-pull --clear-groups sleep 60 & neighbour=$!
        until readlink /proc/$neighbour/exe | grep -q sleep; do kill -0 $neighbour; done
        expect 1 "not permitted" confined sh -c "kill $neighbour"
        kill $neighbour; wait $neighbour || true
        # No other kind of socket: TCP's relatives would lead past the one port, the rest to services of this machine.
        opens() { confined perl -e 'socket(my $s, shift, shift, shift) or die "$!\n"' "$@"; }
        for kind in "2 2 17" "10 2 0" "1 1 0" "1 2 0" "16 3 0" "2 1 262" "10 1 262" "2 1 132" "2 5 132" "2 2 136" "2 2 1" \
            "2 3 255" "17 3 0" "40 1 0" "38 5 0" "31 3 0"; do
            # shellcheck disable=SC2086 # three numbers
            expect 1 "Operation not permitted" opens $kind
        done
        expect 0 "" opens 2 1 6; expect 0 "" opens 10 1 0
        expect 0 "" "${CONFINED[@]::${#CONFINED[@]}-1}" --lookup servers -- perl -e 'socket(my $s, 2, 2, 17) or die'
        # Nothing of others is changed, not even of the same user.
        setpriv --reuid phobos-pull --regid phobos-pull --clear-groups sleep 60 & neighbour=$!
        until readlink /proc/$neighbour/exe | grep -q sleep; do kill -0 $neighbour; done
        for call in "prlimit --pid $neighbour --nofile=1" "taskset -p 1 $neighbour" "renice -n 19 -p $neighbour" \
            "ionice -c 3 -p $neighbour" "chrt --batch -p 0 $neighbour" "unshare --user true" "unshare --map-root-user true"; do
            # shellcheck disable=SC2086 # a call
            expect 1 "not permitted" confined $call
        done
        kill $neighbour; wait $neighbour || true
        # Nor does it get what whoever starts it has open.
        exec 7<known_hosts; expect 1 "Bad file descriptor" confined bash -c 'cat <&7'; exec 7<&-
        # One port of the whole network.
        client luv
        client nuhc
        expect 0 "SSH-2.0-" confined bash -c "exec 3<>/dev/tcp/127.0.0.1/$luv; head -1 <&3"
        expect 1 "Permission denied" confined bash -c "exec 3<>/dev/tcp/127.0.0.1/$nuhc; head -1 <&3"
        "#,
    );
}

#[test]
fn a_key_reads_what_is_configured_and_can_do_nothing_else() {
    tell_of_clients(
        r#"
        mkdir -p "client/home/jon" "client/it's \"x y\""; echo photo >client/home/jon/photo
        client luv
        host luv "luv:$STORY/client/home/" "root = '$STORY/client/home'"
        expect 78 "there is no key $STORY/keys/pull; run \`phobos-pull authorize luv\`" pull check luv
        expect 0 "made the key $STORY/keys/pull" pull authorize luv
        expect 65 "the host key of [luv]:$luv is not known; run \`phobos-pull trust luv\`" pull check luv

        # A host is trusted by the fingerprint of its key, and by no other.
        real=$(ssh-keygen -lf luv.hostkey.pub | cut -d' ' -f2)
        expect 65 "nobody is here to compare the keys of [luv]:$luv" pull trust luv </dev/null
        grep -F "$real (ED25519)" out
        other=SHA256:KZQ+Cwy0YmUeSOXOIxrAOWXpaMJKPojwb6EOJTrYOHg
        expect 65 "shows none of the keys that you trust" pull trust luv --fingerprint $other
        test ! -e known_hosts
        # Somebody at a terminal compares, and answers.
        at_terminal() { echo "$1" | script -qec "phobos-pull --config $CONFIG trust luv" /dev/null; }
        expect 65 "the keys of [luv]:$luv are not trusted; nothing was changed" at_terminal no
        test ! -e known_hosts
        expect 0 "Are they the same?" at_terminal yes
        grep -F "trusted from now on for [luv]:$luv: $real" out
        rm known_hosts
        expect 0 "trusted from now on" pull trust luv --fingerprint "$real"
        expect 0 "is known" pull trust luv
        test "$(stat -c %a known_hosts)" = 644

        expect 1 "cannot log in as root@luv: it does not let phobos-pull in: root@luv: Permission denied (publickey" pull check luv
        grep -F 'put the line that `phobos-pull authorize luv` prints there' out

        # The line as printed does all that is needed, and no more.
        pull authorize luv >luv.keys
        grep -x "restrict,command=\"rrsync -ro $STORY/client/home\" ssh-ed25519 [^ ]* phobos-pull@.*" luv.keys
        expect 0 "" pull check luv
        diff out - <<END
luv: the host key is known
luv: root@luv accepts the key
luv: any other command is refused
luv: $STORY/client/home can be read
luv: writing is refused
luv: forwarding is refused
END

        # A key that can do more is good enough to pull with, but not good.
        line=$(cat luv.keys)
        sed -i 's/^.*" //' luv.keys
        sed -i '/^root/d' pull.d/luv.toml
        can="luv lets this machine"
        use="use this line in its authorized_keys instead: restrict,command=\"rrsync -ro /\" ssh-ed25519"
        expect 0 "$can run any command; $use" pull check luv
        grep -F "$can write; $use" out
        grep -F "$can reach other machines through the host; $use" out
        test "$(ls client/home)" = jon

        # Forwarding alone is too much, too.
        echo "${line#restrict,}" >luv.keys
        echo "root = '$STORY/client/home'" >>pull.d/luv.toml
        expect 0 "luv: writing is refused" pull check luv
        test "$(grep -c "$can" out)" = 1
        grep -F "$can reach other machines through the host" out

        # A source that is not there.
        echo "$line" >luv.keys
        sed -i "1s|client/home/'|client/home/eve/'|" pull.d/luv.toml
        expect 1 "cannot read the sources of luv" pull check luv

        # Quotes, blanks and all.
        place="$STORY/client/it's \"x y\""
        printf 'port = %s\nsource = ["""luv:%s/"""]\nroot = """%s"""\n' "$luv" "$place" "$place" >pull.d/luv.toml
        pull authorize luv >luv.keys
        expect 0 "luv: $place can be read" pull check luv
        test "$(grep -c "$can" out)" = 0

        # Another machine answers in its place.
        kill "$(cat luv.pid)"; while test -e luv.pid; do :; done
        expect 66 "cannot log in as root@luv: it is not there: ssh: connect to host" pull check luv
        rm luv.hostkey*; ssh-keygen -q -t ed25519 -N '' -C '' -f luv.hostkey
        /usr/sbin/sshd -f "$STORY/luv.sshd" -E "$STORY/luv.log"
        expect 65 "its host key is not the one that is known" pull check luv
        grep -F 'if it was changed for a good reason, run `phobos-pull trust luv`' out
        expect 65 "had other keys until now: $real" pull trust luv </dev/null
        expect 0 "trusted from now on" pull trust luv --fingerprint "$(ssh-keygen -lf luv.hostkey.pub | cut -d' ' -f2)"
        expect 0 "luv: writing is refused" pull check luv
        test "$(wc -l <known_hosts)" = 1
        test -z "$(ls /run/phobos/pull)"
        "#,
    );
}

#[test]
fn a_daemon_is_checked_too() {
    tell_of_clients(
        r#"
        mkdir music; echo tune >music/tune
        printf '[music]\npath = %s\nuse chroot = no\nread only = no\nuid = root\ngid = root\n' "$STORY/music" >rsyncd.conf
        mkdir pull.d
        echo "source = ['rsync://chew:8730/music/']" >pull.d/chew.toml
        expect 66 "cannot read the sources of chew: it is not there: rsync: " pull check chew
        rsync --daemon --no-detach --address=127.0.0.1 --port=8730 --config=rsyncd.conf & daemon=$!
        until (exec 3<>/dev/tcp/127.0.0.1/8730) 2>/dev/null; do kill -0 $daemon; done
        expect 0 "chew lets this machine write; set \`read only = true\` in its rsyncd.conf" pull check chew
        test "$(ls music)" = tune
        sed -i 's/^read only.*/read only = yes/' rsyncd.conf
        expect 0 "chew: writing is refused" pull check chew
        expect 78 "chew has no source that is reached with ssh" pull authorize chew
        kill $daemon; wait $daemon || true
        "#,
    );
}

/// What a client sends never gets out of its holding space, and is nothing there but plain files and folders.
#[test]
fn a_client_that_lies_changes_nothing_outside_its_holding_space() {
    tell_of_clients(
        r#"
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
        # Links and modes are kept beside the files, and no link leads anywhere; devices are not kept.
        inside getfattr -n user.rsync.%stat "$space/absolute" | grep 120777
        inside getfattr -n user.rsync.%stat "$space/program" | grep 106755
        inside test -f "$space/absolute" -a ! -e "$space/null" -a ! -e "$space/disk"

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
        inert; inside test ! -e "$space/odd"
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
        "#,
    );
}

/// The worst case: an rsync with a hole that does whatever the client says. Landlock is what stops it.
#[test]
fn a_receiver_taken_over_by_its_client_is_kept_in_by_landlock() {
    tell_of_clients(
        r#"
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
        cp keys/pull key; chown $luv:$luv key
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
        never pgrep -u $luv .
        wait $bystander || true
        umount /usr/bin/rsync
        "#,
    );
}

#[test]
fn a_killed_pull_leaves_neither_processes_nor_the_key() {
    tell_of_clients(
        r#"
        spaces
        client luv
        mkdir client; head -c 6000000 /dev/urandom >client/photo
        host luv "luv:$STORY/client/" 'bandwidth-limit = "100K"'
        friend luv
        phobos-pull --config "$CONFIG" luv & puller=$!
        under_way() { inside find /backup/holding/luv -name 'photo.*' | grep .; }
        until under_way; do kill -0 $puller; done
        pgrep -u 70000 rsync; pgrep -u 70000 ssh
        test "$(stat -c '%a %u' /run/phobos/pull/luv)" = "400 70000"
        kill -KILL $puller; wait $puller || true
        while pgrep -u 70000; do :; done
        # Nobody could take the copy back; the next pull does, and lends it anew.
        test -e /run/phobos/pull/luv
        sed -i '/^bandwidth/d' pull.d/luv.toml
        expect 0 "luv: copied" pull luv
        test -z "$(ls -A /run/phobos/pull)"
        "#,
    );
}

/// As the units start: a umask that leaves others nothing, and folders in memory that are not there after a boot.
#[test]
fn a_pull_after_a_boot_works_under_the_units_umask() {
    tell_of_clients(
        r#"
        umask 077
        spaces
        client luv
        mkdir client; echo photo >client/photo; chmod 644 client/photo; chmod 711 .
        host luv "luv:$STORY/client/"
        friend luv
        for time in 1 2 3; do
            rm -rf /run/phobos/pull /run/phobos/check
            # An earlier version has left the folder closed.
            test $time != 2 || { mkdir -p /run/phobos/pull; chmod 700 /run/phobos/pull; }
            echo $time >>client/photo
            expect 0 "luv: copied 1 files" pull luv
            test "$(stat -c %a /run/phobos/pull)" = 711
        done
        rm -rf /run/phobos/pull /run/phobos/check
        expect 0 "luv: writing is refused" pull check luv
        expect 0 "" pull luv
        "#,
    );
}
