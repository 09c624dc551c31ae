# The servers that hosts have: what is good, what is checked, and what is told when each no longer lets us in.
#
# | host   | server                                   | what restricts the key      | how the server is known  |
# |--------|------------------------------------------|-----------------------------|--------------------------|
# | python | OpenSSH                                  | rrsync, python (3.2.4 on)   | its key                  |
# | perl   | OpenSSH, and rsync 3.2.3                 | its rrsync, in Perl         | its key                  |
# | older  | OpenSSH, and rsync 3.2.7                 | its rrsync                  | its key                  |
# | free   | OpenSSH                                  | nothing                     | its key                  |
# | old    | OpenSSH with an RSA key                  | rrsync                      | its key, its name hashed |
# | vouch  | OpenSSH                                  | rrsync                      | an authority             |
# | loud   | OpenSSH with a banner and a message      | rrsync                      | its key                  |
# | drop   | dropbear                                 | rrsync                      | its key                  |
# | behind | OpenSSH, reached through `python`        | rrsync                      | its key                  |
# | daemon | an rsync daemon                          | `read only`                 | not at all               |
#
# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

ssh_hosts=(python perl older free old vouch loud drop behind)
for name in "${ssh_hosts[@]}" daemon; do client "$name"; echo "of $name" >"$name/home/f"; mkdir "$name/home/d"; ln -s f "$name/home/d/link"; done

# The rsyncs of other years, each with its own rrsync, which calls what it finds in /usr/bin.
declare -A releases=([perl]=bullseye [older]=bookworm); chmod 711 .
for name in "${!releases[@]}"; do
    # shellcheck disable=SC2153 # It comes from outside.
    place=$OLDER/${releases[$name]}; test -x "$place/rsync" || { echo "story: no $place; \`cargo test -p phobos-tests --test host every_kind\` makes it"; exit 1; }
    ON_MOUNT="mount --bind '$place/rsync' /usr/bin/rsync" restart "$name"
    let_in "$name" "restrict,command=\"$place/usr/bin/rrsync -ro /home\""; configure "$name" "source = ['root@$name:/home/']" "root = '/home'"
done
"$OLDER/bullseye/rsync" --version | grep 'version 3\.2\.3 '; "$OLDER/bookworm/rsync" --version | grep 'version 3\.2\.7 '
head -n 1 "$OLDER/bullseye/usr/bin/rrsync" | grep perl
let_in free restrict

ssh-keygen -q -t rsa -b 2048 -N '' -C '' -f old.rsa
sed -i "s|^HostKey .*|HostKey $STORY/old.rsa|" old.sshd; echo 'HostKeyAlgorithms rsa-sha2-256' >>old.sshd; restart old
echo "old $(cut -d' ' -f1,2 old.rsa.pub)" >hashed; ssh-keygen -q -H -f hashed; sed -i '/^old /d' known_hosts; cat hashed >>known_hosts

ssh-keygen -q -t ed25519 -N '' -f authority; ssh-keygen -q -s authority -I vouch -h -n vouch vouch.hostkey.pub
echo "HostCertificate $STORY/vouch.hostkey-cert.pub" >>vouch.sshd; restart vouch
sed -i '/^vouch /d' known_hosts; echo "@cert-authority vouch $(cut -d' ' -f1,2 authority.pub)" >>known_hosts

for line in $(seq 100); do echo "** Authorized use only, line $line **"; done >banner
printf 'Banner %s\nPrintMotd yes\n' "$STORY/banner" >>loud.sshd; restart loud

kill "$(cat drop.pid)"; until ! ip netns exec drop ss -Hltn 'sport = 22' | grep -q .; do :; done
dropbearkey -t ed25519 -f drop.key 2>/dev/null | grep '^ssh-ed25519' | sed 's/^/drop /; s/ [^ ]*$//' >drop.known
sed -i '/^drop /d' known_hosts; cat drop.known >>known_hosts
mkdir -p root/.ssh; chmod 700 root root/.ssh; cp drop.keys root/.ssh/authorized_keys; chmod 600 root/.ssh/authorized_keys
ip netns exec drop sh -c "mount --bind '$STORY/drop/home' /home; mount --bind '$STORY/root' /root; exec dropbear -r '$STORY/drop.key' -p 22 -P '$STORY/drop.pid' -E 2>drop.log"
until ip netns exec drop ss -Hltn 'sport = 22' | grep -q .; do :; done

# There is no way from here to `behind` but through `python`.
ip -n python link add to type veth peer name eth1 netns behind
ip -n python addr add 10.77.0.1/24 dev to; ip -n python link set to up
ip -n behind addr add 10.77.0.2/24 dev eth1; ip -n behind link set eth1 up
sed '/ behind$/d' hosts >hosts.new; echo '10.77.0.2 behind' >>hosts.new; cat hosts.new >hosts
sed 's/^restrict,/restrict,port-forwarding,permitopen="behind:22",/' python.keys >python.new; cat python.new >python.keys
configure behind "source = ['root@behind:/home/']" "jump = 'python'"

printf '[home]\npath = %s/daemon/home\nuse chroot = no\nuid = root\ngid = root\nread only = yes\n' "$STORY" >rsyncd.conf
ip netns exec daemon rsync --daemon --config="$STORY/rsyncd.conf"
configure daemon "source = ['rsync://daemon/home/']"

# Good.
expect 0 "behind: copied 1 files" pull --all --jobs 10
for name in "${ssh_hosts[@]}"; do same "$name"; test "$(mark "$name" state)" = ok; done
inside cmp $HOLDING/daemon/home/f "$STORY/daemon/home/f"
for name in "${ssh_hosts[@]}" daemon; do rm "$name/home/f"; echo "more of $name" >"$name/home/g"; done
pull --all --jobs 10 --json >outcomes; test "$(grep -c '"deleted": 1' outcomes)" = 10
for name in "${ssh_hosts[@]}"; do same "$name"; done

# Checked.
for name in "${ssh_hosts[@]}" daemon; do
    if [ "$name" = free ]; then
        expect 0 "free lets this machine run any command; use this line" pull check free; grep "free lets this machine write; " out
    else
        expect 0 "$name: writing is refused" pull check "$name"; never grep "lets this machine" out
    fi
done

# Given back to, where the words that its rrsync does not know are taken out of the line; until then it says so.
for name in python older perl drop; do
    keys=$name.keys; if [ $name = drop ]; then keys=root/.ssh/authorized_keys; fi
    cp $keys kept.keys; pull authorize $name --restore | sed "s|rrsync |$(sed -n 's/.*command="\([^ "]*rrsync\) .*/\1/p' $keys) |" >line
    case $name in
        perl) cut=' -no-del -no-overwrite' ;; older) cut=' -no-overwrite' ;; drop) cut='expiry-time="[0-9]*",' ;; *) cut= ;;
    esac
    cat line >>$keys; rm $name/home/g
    if [ "$cut" ]; then expect 1 "cannot give back to $name: " pull restore $name /home/g --to $name:/home; cp kept.keys $keys; sed "s/$cut//" line >>$keys; fi
    expect 0 "gave back" pull restore $name /home/g --to $name:/home; grep -x "more of $name" $name/home/g; cp kept.keys $keys
done

# One behind another takes a line on both.
pull authorize behind --restore >line 2>told; cat told; cat line >>behind.keys; cp python.keys kept.keys; rm behind/home/g
sed -n 's/.* on the way, its line is: //p' told >>python.keys; tail -n 1 python.keys | grep '^restrict,expiry-time="[0-9]*",port-forwarding,permitopen="behind:22" ssh-ed25519 '
expect 0 "gave back" pull restore behind /home/g --to behind:/home; grep -x "more of behind" behind/home/g; cp kept.keys python.keys

# No longer let in: a failure of each, never an absence.
for name in python perl older free old vouch loud behind; do : >"$name.keys"; done; : >root/.ssh/authorized_keys
echo 'hosts deny = *' >>rsyncd.conf
expect 1 "daemon: cannot copy from rsync://daemon/home/: rsync ended with exit code 5: @ERROR: access denied to home" pull --all --jobs 10
for name in python perl older free old vouch loud drop; do
    grep "error: $name: cannot copy from root@$name:.*: it does not let phobos-pull in: root@$name: Permission denied (publickey" out
done
grep "error: behind: cannot copy from root@behind:/home/: it does not let phobos-pull in: root@python: Permission denied (publickey" out
for name in "${ssh_hosts[@]}" daemon; do test "$(mark "$name" state)" = failed; done
