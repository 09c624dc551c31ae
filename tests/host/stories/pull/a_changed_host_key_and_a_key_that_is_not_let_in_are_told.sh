# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv; echo x >luv/home/x
expect 0 "" pull luv
rm luv.hostkey; ssh-keygen -q -t ed25519 -N '' -f luv.hostkey
restart luv
expect 65 "its host key is not the one that is known" pull luv
test "$(mark luv state)" = refused; inside test -f $HOLDING/luv/home/x
echo "luv $(cut -d' ' -f1,2 luv.hostkey.pub)" >known_hosts
: >luv.keys
expect 1 "it does not let phobos-pull in: root@luv: Permission denied (publickey" pull luv
test "$(mark luv state)" = failed
rm keys/pull
expect 78 "there is no key $STORY/keys/pull; run \`phobos-pull authorize luv\`" pull luv
ssh-keygen -q -t ed25519 -N '' -f keys/pull
: >known_hosts
expect 65 "its host key is not known; run \`phobos-pull trust luv\`" pull luv
rm known_hosts
expect 65 "its host key is not known; run \`phobos-pull trust luv\`" pull luv
