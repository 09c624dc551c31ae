# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client gate; client luv; echo hi >luv/home/f
# From here to luv there is a way through gate only; gate's ssh has a port of its own.
ip -n gate link add tol type veth peer name eth1 netns luv
ip -n gate addr add 10.77.0.1/24 dev tol; ip -n gate link set tol up
ip -n luv addr add 10.77.0.2/24 dev eth1; ip -n luv link set eth1 up
sed '/ luv$/d' hosts >hosts.new; echo '10.77.0.2 luv' >>hosts.new; cat hosts.new >hosts
sed -i 's/^Port 22$/Port 2022/' gate.sshd; kill "$(cat gate.pid)"; server gate
let_in gate 'restrict,port-forwarding,permitopen="luv:22"'
configure luv "source = ['root@luv:/home/']" "jump = 'root@gate:2022'"
: >known_hosts
expect 65 "its host key is not known; run \`phobos-pull trust luv\`" pull luv
print() { ssh-keygen -lf "$1.hostkey.pub" | cut -d' ' -f2; }
expect 65 "[gate]:2022 shows none of the keys that you trust" pull trust luv --fingerprint "$(print luv)"
expect 0 "trusted from now on for luv: $(print luv)" \
    pull trust luv --fingerprint "$(print gate)" --fingerprint "$(print luv)"
expect 0 "is known" pull trust luv
expect 0 "luv: copied 1 files" pull luv; same luv
expect 0 "luv: forwarding is refused" pull check luv
# Who is away, who refuses, and who answers in another's place is told for each of the two.
kill "$(cat luv.pid)"; until ! ip netns exec luv ss -Hltn 'sport = 22' | grep -q .; do :; done
expect 66 "it is not there: channel 0: open failed: connect failed: Connection refused" pull luv
server luv
let_in gate 'restrict,port-forwarding,permitopen="luv:23"'
expect 1 "the host in between does not let phobos-pull through: " pull luv
: >gate.keys
expect 1 "it does not let phobos-pull in: root@gate: Permission denied" pull luv
kill "$(cat gate.pid)"; until ! ip netns exec gate ss -Hltn 'sport = 2022' | grep -q .; do :; done
expect 66 "it is not there: ssh: connect to host gate port 2022: Connection refused" pull luv
configure luv "source = ['root@luv:/home/']" "ssh-options = ['ProxyJump=root@gate']"
expect 78 'name the host in between with jump = "root@gate"' pull luv
