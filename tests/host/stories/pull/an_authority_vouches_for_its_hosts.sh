# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv; echo x >luv/home/x
ssh-keygen -q -t ed25519 -N '' -f authority
ssh-keygen -q -s authority -I luv -h -n luv luv.hostkey.pub
echo "HostCertificate $STORY/luv.hostkey-cert.pub" >>luv.sshd; restart luv
echo "@cert-authority * $(cut -d' ' -f1,2 authority.pub)" >known_hosts
expect 0 "luv: copied 1 files" pull luv
expect 0 "luv: the host key is known" pull check luv
expect 0 "luv is known by an authority" pull trust luv
