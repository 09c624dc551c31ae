# What goes wrong at a host that is there is told as such, and never as an absence that an optional host may have.
#
# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv; echo x >luv/home/x
sources="source = ['root@luv:/home/']"
configure luv "$sources" 'optional = true'
expect 0 "" pull luv
cp luv.sshd usual
# A banner longer than anything that is kept, before the key is refused.
for i in $(seq 300); do echo "** Authorized use only, line $i **"; done >banner
echo "Banner $STORY/banner" >>luv.sshd; restart luv; cp luv.keys keys.usual; : >luv.keys
for _ in 1 2 3; do
    expect 1 "it does not let phobos-pull in: root@luv: Permission denied (publickey" pull luv
    test "$(mark luv state)" = failed
done
cp keys.usual luv.keys; expect 0 "" pull luv
# A server that knows only what ssh here has given up.
ssh-keygen -q -t rsa -N '' -f luv.rsa
sed "s|^HostKey .*|HostKey $STORY/luv.rsa|" usual >luv.sshd; echo 'HostKeyAlgorithms ssh-rsa' >>luv.sshd; restart luv
for _ in $(seq 10); do
    expect 1 "it knows only ways that ssh here no longer takes: Unable to negotiate with" pull luv
done
cp usual luv.sshd; restart luv
# Options that are none, and a port that this machine's own walls close.
configure luv "$sources" 'optional = true' "ssh-options = ['ConectTimeout=5']"
expect 78 "ssh does not take its options: command-line: line 0: Bad configuration option: conecttimeout" pull luv
configure luv "$sources" 'optional = true' "ssh-options = ['Port=2222']"
expect 78 "ssh is not let out to that port: ssh: connect to host luv port 2222: Permission denied" pull luv
configure luv "$sources" 'optional = true'
# What openrsync 0.5 says to a pull, and the end of it; BSD and macOS have it.
printf '%s\n' "rsync: invalid option -- 'A'" 'usage: rsync [-DFP]' $'\t[--8-bit-output, -8]' $'\t[--address=sourceaddr]' $'\tsource ... directory' >openrsync; chmod 755 .
# What the key starts there is missing, refuses, or is another program.
while IFS='|' read -r command code said; do
    let_in luv "restrict,command=\"${command/STORY/"$STORY"}\""
    expect "$code" "$said" pull luv
    test "$(mark luv state)" = failed
done <<-'END'
		no-such-rrsync -ro /|1|it has no rsync or rrsync where the key looks for it:
		false|1|the connection was closed without a word; is rsync there
		/usr/sbin/nologin|1|or its shell is nologin
		sh -c 'echo rsync: unrecognized option -- A >&2; exit 1'|1|its rsync is another one, or too old: rsync: unrecognized option -- A
		cat STORY/openrsync >&2; exit 1|1|its rsync is another one, or too old: rsync: invalid option -- 'A' | usage: rsync [-DFP]
		sh -c 'echo rrsync: not yours >&2; exit 255'|1|what restricts the key refuses the call: rrsync: not yours
		echo welcome to luv; exec rrsync -ro /|1|it says something before rsync does
		END
let_in luv "$RRSYNC"; expect 0 "" pull luv; same luv
# Perl's rrsync ends with ssh's own code where it refuses: that is no failed login.
let_in luv "restrict,command=\"sh -c 'case \$SSH_ORIGINAL_COMMAND in rsync*--sender*) exec rrsync -ro /;; esac; echo not rsync >&2; exit 255'\""
expect 0 "luv: any other command is refused" pull check luv
grep -x 'luv: writing is refused' out
# And it may still be away.
kill "$(cat luv.pid)"
expect 0 "it is not there: ssh: connect to host luv port 22: Connection refused; that is no failure" pull luv
