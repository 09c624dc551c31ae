# A machine that waits with dropbear and boots into OpenSSH; what opens its disk here says what Debian's `cryptroot-unlock` says.
#
# shellcheck source=../../pull.sh
. "$HOST/pull.sh"
require dropbear dropbearkey

client nas; kill "$(cat nas.pid)"; ip netns exec nas ip link set lo up
until ! ip netns exec nas ss -Hltn 'sport = 22' | grep -q .; do :; done
for name in initramfs another; do dropbearkey -t ed25519 -f $name.key 2>/dev/null >$name.pub; done
fingerprint() { ssh-keygen -lf "$1" | grep -o 'SHA256:[^ ]*'; }
grep ^ssh-ed25519 initramfs.pub >initramfs.line; grep ^ssh-ed25519 another.pub >another.line
ssh-keygen -q -t ed25519 -N '' -C '' -f keys/stranger
mkdir -p root/.ssh; chmod 700 root root/.ssh
cat >cryptroot-unlock <<END
#!/bin/sh
# The passphrase comes on standard input, whatever command was asked for.
cd "$STORY"; given=\$(cat; echo .); given=\${given%.}; echo "Please unlock disk sda_crypt"; printf '%s\n' "\$given" >>given
if [ -e cut ]; then rm cut; kill -9 \$PPID; exit 1; fi
while [ -e slow ]; do sleep 0.1; done
if [ "\$given" = "right words" ]; then echo "cryptsetup: sda_crypt set up successfully" >&2; touch opened; exit 0; fi
echo "cryptsetup: cryptsetup failed, bad password or options?" >&2; exit 1
END
chmod 755 cryptroot-unlock
restricted="no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-pty,command=\"$STORY/cryptroot-unlock\""
echo "$restricted $(cat keys/pull.pub)" >root/.ssh/authorized_keys; chmod 600 root/.ssh/authorized_keys

gone() { until ! ip netns exec nas ss -Hltn 'sport = 22' | grep -q .; do sleep 0.02; done; }
there() { until ip netns exec nas ss -Hltn 'sport = 22' | grep -q .; do sleep 0.02; done; }
# off: nothing answers. waits KEY: the initramfs does, with this host key; it boots as soon as its disk is open.
WATCHER=
off() { if [ "$WATCHER" ]; then kill $WATCHER 2>/dev/null || true; wait $WATCHER || true; WATCHER=; fi; for pid in initramfs.pid nas.pid; do if [ -s $pid ]; then kill "$(cat $pid)" 2>/dev/null || true; fi; rm -f $pid; done; gone; }
waits() {
    off; rm -f opened
    ip netns exec nas sh -c "mount --bind '$STORY/root' /root; exec dropbear -r '$STORY/${1:-initramfs}.key' -s -j -k -p 22 -P '$STORY/initramfs.pid' -E 2>>dropbear.log"
    there
    (
        until [ -e opened ]; do sleep 0.05; done
        kill "$(cat initramfs.pid)"; rm -f initramfs.pid; gone; server nas
    ) & WATCHER=$!
}
boots() { off; server nas; there; }
unlock() { phobos-unlock --config "$STORY/unlock.toml" "$@"; }
# right COMMAND…: with the right passphrase on its standard input.
right() { echo "right words" | "$@"; }
wrong() { echo "wrong words" | "$@"; }
printf '[unlock.nas]\nidentity = "%s"\nwait = "20s"\nboot = "20s"\n' "$STORY/keys/pull" >unlock.toml

# A file that is named has to be there, and what was asked for has to be told.
expect 78 "none.toml: cannot read it: No such file" phobos-unlock --config "$STORY/none.toml" nas
code=0; phobos-unlock check >/dev/full || code=$?; test $code = 1

# Nobody is trusted unseen, and each of the two systems only by its own key.
waits
expect 65 "no key of nas is pinned for the system that waits" right unlock nas
expect 65 "shows none of the keys that you trust" unlock trust nas --fingerprint "$(fingerprint another.line)"
expect 65 "nobody is here to compare the keys of nas" unlock trust nas </dev/null
expect 0 "nothing is pinned yet for the running system" unlock trust nas --fingerprint "$(fingerprint initramfs.line)"
expect 65 "no key of nas is pinned for the running system" right unlock nas
boots; expect 0 "pinned for the running system of nas" unlock trust nas --fingerprint "$(fingerprint nas.hostkey.pub)"
test "$(stat -c %a unlock unlock/nas.booted)" = "$(printf '700\n600')"; test ! -e given

# It is up already; it is not there; it comes while it is waited for.
expect 0 "nas is up already" right unlock nas; test ! -e given
off; expect 66 "nas is not there: nothing that takes a passphrase answered at nas port 22" right unlock nas --wait 2s
right unlock nas >out 2>&1 & job=$!
until grep -q "waiting until nas asks" out; do kill -0 $job; sleep 0.05; done
waits; wait $job; cat out; grep "nas has taken the passphrase" out; grep "nas is up" out; test "$(cat given)" = "right words"; rm given

# A wrong passphrase, a wrong key, and other machines in its place, which are told nothing.
waits; expect 65 "the passphrase is wrong: it opens no disk of nas" wrong unlock nas; rm given
expect 77 "nas does not let this key in" right unlock nas --identity "$STORY/keys/stranger"; test ! -e given
waits another
expect 65 "what answers for nas shows no key that is pinned for the system that waits for the passphrase, but SHA256:" right unlock nas
test ! -e given
# One with the right key at first, and another one behind it.
cp nas.hostkey nas.kept; cp nas.hostkey.pub nas.kept.pub; rm nas.hostkey nas.hostkey.pub; ssh-keygen -q -t ed25519 -N '' -C '' -f nas.hostkey
waits; expect 65 "shows no key that is pinned for the running system" right unlock nas
mv nas.kept nas.hostkey; mv nas.kept.pub nas.hostkey.pub; rm given

# A connection that dies in the middle is tried again.
waits; touch cut; expect 0 "is tried again" right unlock nas; test "$(wc -l <given)" = 2; rm given

# Somebody types it, unseen, and once more where it was wrong; Ctrl-C leaves a terminal that shows what is typed.
on_terminal() {
    rm -f typed typescript; mkfifo typed
    command="trap : INT; phobos-unlock --config $STORY/unlock.toml nas; code=\$?; stty -a; exit \$code"
    env --default-signal=INT,QUIT script --quiet --return --flush --command "$command" typescript <typed >/dev/null & terminal=$!
    exec 3>typed
}
asked() { until [ "$(grep -ao "Passphrase of nas: " typescript 2>/dev/null | wc -l)" = "$1" ]; do kill -0 $terminal; sleep 0.05; done; }
waits; on_terminal; asked 1; echo "wrong words" >&3; asked 2; echo "right words" >&3
code=0; wait $terminal || code=$?; exec 3>&-; cat typescript; test $code = 0
grep -a "that passphrase opens no disk of nas" typescript; grep -a "nas is up" typescript; never grep -a words typescript
test "$(tr '\n' , <given)" = "wrong words,right words,"; rm given
waits; on_terminal; asked 1; echo "wrong words" >&3; asked 2; echo "wrong words" >&3; asked 3; echo "wrong words" >&3
code=0; wait $terminal || code=$?; exec 3>&-; test $code = 65; rm given
off; on_terminal; asked 1; printf '\003' >&3
code=0; wait $terminal || code=$?; exec 3>&-; cat typescript; test $code = 130; grep -a " echo " typescript; test ! -e given

# From a command; and nowhere where others look, while it is on its way.
printf '[unlock.nas]\nidentity = "%s"\npassphrase-command = ["cat", "%s"]\n' "$STORY/keys/pull" "$STORY/right" >unlock.toml
printf 'right words\nuser: x\n' >right; waits; touch slow
phobos-unlock --config "$STORY/unlock.toml" nas >out 2>&1 </dev/null & job=$!
until [ -s given ]; do kill -0 $job; sleep 0.05; done
for process in /proc/[0-9]*; do
    if cat "$process/cmdline" "$process/environ" 2>/dev/null | grep -qa "right words"; then echo "$process knows"; exit 1; fi
done
grep -x "Max core file size *0 *0 *bytes *" /proc/$job/limits; never grep -x "VmLck:[[:space:]]*0 kB" /proc/$job/status
rm slow; wait $job; cat out; grep "nas is up" out; never grep -r "right words" out dropbear.log

# A signal ends the waiting at once.
off; phobos-unlock --config "$STORY/unlock.toml" nas >out 2>&1 </dev/null & job=$!
until grep -q "waiting until nas asks" out; do kill -0 $job; sleep 0.05; done
kill -TERM $job; code=0; wait $job || code=$?; cat out; test $code = 143; grep "error: stopped by signal 15" out
