//! Stories of who is protected from whom: the server from its clients, and the clients from the server.

use crate::miniature::tell;

/// Tells a story with clients.
fn tell_of_clients(story: &str) {
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
            as_user touch "$elsewhere/proof"; rm "$elsewhere/proof"
            expect 1 "Permission denied" confined touch "$elsewhere/proof"
            test ! -e "$elsewhere/proof"
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
        # Another program of the same user.
        setpriv --reuid phobos-pull --regid phobos-pull --clear-groups sleep 60 & neighbour=$!
        until readlink /proc/$neighbour/exe | grep -q sleep; do kill -0 $neighbour; done
        expect 1 "not permitted" confined sh -c "kill $neighbour"
        kill $neighbour; wait $neighbour || true
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
        expect 0 "trusted from now on" pull trust luv --fingerprint "$real"
        expect 0 "are known" pull trust luv
        test "$(stat -c %a known_hosts)" = 644

        expect 1 "cannot log in as root@luv: root@luv: Permission denied (publickey" pull check luv
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
        expect 66 "is it on?" pull check luv
        rm luv.hostkey*; ssh-keygen -q -t ed25519 -N '' -C '' -f luv.hostkey
        /usr/sbin/sshd -f "$STORY/luv.sshd" -E "$STORY/luv.log"
        expect 65 "Host key verification failed" pull check luv
        grep -F 'if its key was changed for a good reason, run `phobos-pull trust luv`' out
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
        expect 66 "cannot reach chew; is it on, and its rsync daemon?" pull check chew
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

#[test]
fn x_hostile() {
    tell_of_clients(
        r#"
        client luv
        mkdir -p client/QQ; echo evil >client/QQ/evil; echo ok >client/ok
        host luv "luv:$STORY/client/"
        friend luv
        ssh="ssh -F none -p $luv -o BatchMode=yes -o UserKnownHostsFile=$STORY/known_hosts -i $STORY/key"
        cp keys/pull key; chown phobos-pull: key
        receive() { phobos-pull confined --user phobos-pull --folder space/luv --read "$STORY/known_hosts" --read $STORY/key --connect 2200 -- rsync -aHAX --numeric-ids --fake-super --no-D --delete-after -e "$ssh" "$@" root@luv:$STORY/client/ .; }
        receive; find space; 
        liar luv 5151=2e2e
        receive || echo rc $?; find space
        liar luv 5151=2f78
        receive || echo rc $?; find space
        false
        "#,
    );
}
