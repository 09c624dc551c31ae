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
# An ssh that shares its connection may make a socket, in one place of 64 KB; services of the machine are hidden from it.
place=/run/phobos/pull/control; mkdir -p $place space/own; chmod 711 /run/phobos/pull
chown 70000:70000 $place space/own; chmod 700 $place
{ cat /etc/passwd; echo 'phobos-pull:x:70000:70000::/nonexistent:/usr/sbin/nologin'; } >users
as_own=(setpriv --reuid 70000 --regid 70000 --clear-groups)
shares() { phobos-pull confined --user phobos-pull --alias 70000 --passwd "$STORY/users" --folder space/own --control $place -- "$@"; }
listens='socket(my $s, 1, 1, 0) or die "$!\n"; bind($s, sockaddr_un(shift)) && listen($s, 9) or die "$!\n"; sleep shift'
connects='socket(my $s, 1, 1, 0) or die "$!\n"; connect($s, sockaddr_un(shift)) or die "$!\n"'
perl -MSocket -e "$listens" /run/service 300 & service=$!
until test -S /run/service; do kill -0 $service; done; chmod 777 /run/service
"${as_own[@]}" perl -MSocket -e "$connects" /run/service
expect 2 "No such file" shares perl -MSocket -e "$connects" /run/service
expect 1 "Operation not permitted" confined perl -MSocket -e "$connects" /run/service
kill $service; wait $service || true
expect 0 "" shares perl -MSocket -e "$listens" $place/socket 0
expect 13 "Permission denied" shares perl -MSocket -e "$listens" here 0
expect 0 "" shares sh -c "echo said >>$place/log"
printf '#!/bin/sh\n' >$place/program; chmod 755 $place/program
expect 1 "Permission denied" shares $place/program
expect 1 "Operation not permitted" shares perl -e 'socket(my $s, 1, 2, 0) or die "$!\n"'
# One port of the whole network.
client luv
client nuhc
expect 0 "SSH-2.0-" confined bash -c "exec 3<>/dev/tcp/127.0.0.1/$luv; head -1 <&3"
expect 1 "Permission denied" confined bash -c "exec 3<>/dev/tcp/127.0.0.1/$nuhc; head -1 <&3"
