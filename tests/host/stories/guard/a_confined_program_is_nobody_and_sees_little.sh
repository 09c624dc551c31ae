# shellcheck source=../../guard.sh
. "$HOST/guard.sh"

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
