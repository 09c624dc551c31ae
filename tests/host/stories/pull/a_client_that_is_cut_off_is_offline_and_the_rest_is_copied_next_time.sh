# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv "bandwidth-limit = '600KiB'" "ssh-options = ['ServerAliveInterval=1', 'ServerAliveCountMax=1']"
echo old >luv/home/kept; echo old >luv/home/other
expect 0 "luv: copied 2 files" pull luv
big_file luv photo; rm luv/home/kept
phobos-pull --config "$CONFIG" luv >said.pull 2>&1 & job=$!
under_way luv photo $job 2500k
ip -n luv link set eth0 down
code=0; wait $job || code=$?
cat said.pull
test $code = 66; grep "error: luv: cannot copy from root@luv:/home/: it is not there: " said.pull
test "$(mark luv state)" = offline
inside test -f $HOLDING/luv/home/kept
inside test ! -e $HOLDING/luv/home/photo
inside find $HOLDING/luv/home -path '*/.phobos-partial-*/photo' -size +2000k | grep .
ip -n luv link set eth0 up
# What has come is not sent again.
sed -i /bandwidth/d pull.d/luv.toml
before=$(received luv)
expect 0 "luv: copied 1 files with 6 MB, deleted 1" pull luv
test $(($(received luv) - before)) -lt 4500000
same luv
never inside sh -c "find $HOLDING/luv | grep -F .phobos-"
# Where what was cut off is given back to the host with the rest, it is pulled with the rest.
big_file luv film; echo "bandwidth-limit = '600KiB'" >>pull.d/luv.toml
phobos-pull --config "$CONFIG" luv & job=$!
under_way luv film $job; kill -TERM $job; wait $job || true
part=$(inside sh -c "cd $HOLDING/luv/home; ls -d .phobos-partial-*")
mkdir "luv/home/$part"; echo part >"luv/home/$part/film"; sed -i /bandwidth/d pull.d/luv.toml
expect 0 "" pull luv; expect 0 "" pull luv; same luv
inside grep -x part "$HOLDING/luv/home/$part/film"
