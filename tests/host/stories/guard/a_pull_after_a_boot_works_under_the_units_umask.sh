# As the units start: a umask that leaves others nothing, and folders in memory that are not there after a boot.
#
# shellcheck source=../../guard.sh
. "$HOST/guard.sh"

umask 077
spaces
client luv
mkdir client; echo photo >client/photo; chmod 644 client/photo; chmod 711 .
host luv "luv:$STORY/client/"
friend luv
for time in 1 2 3; do
    rm -rf /run/phobos/pull /run/phobos/check
    # An earlier version has left the folder closed.
    test $time != 2 || { mkdir -p /run/phobos/pull; chmod 700 /run/phobos/pull; }
    echo $time >>client/photo
    expect 0 "luv: copied 1 files" pull luv
    test "$(stat -c %a /run/phobos/pull)" = 711
done
rm -rf /run/phobos/pull /run/phobos/check
expect 0 "luv: writing is refused" pull check luv
expect 0 "" pull luv
