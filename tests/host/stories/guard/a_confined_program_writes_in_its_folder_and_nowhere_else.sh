# shellcheck source=../../guard.sh
. "$HOST/guard.sh"

# What the user could write, if nothing but file permissions stood in its way.
mkdir open; chmod 777 open
as_user() { (cd space/luv; setpriv --reuid phobos-pull --regid phobos-pull --clear-groups --no-new-privs -- "$@"); }
touch known_hosts
for elsewhere in "$STORY/open" /tmp /var/tmp /dev/shm; do
    test -d "$elsewhere" || continue
    proof=$elsewhere/proof.${STORY##*/}
    as_user touch "$proof"; rm "$proof"
    expect 1 "Permission denied" confined touch "$proof"
    test ! -e "$proof"
done
# The neighbour's folder belongs to the same user: only Landlock stands in the way.
chmod 755 . space
as_user touch "$STORY/space/nuhc/proof"; rm space/nuhc/proof
expect 1 "Permission denied" confined touch "$STORY/space/nuhc/proof"
as_user touch ../nuhc/proof; rm space/nuhc/proof
expect 1 "Permission denied" confined touch ../nuhc/proof
ln -s ../nuhc space/luv/link
expect 1 "Permission denied" confined touch link/proof
echo secret >space/nuhc/photo; chown phobos-pull: space/nuhc/photo
as_user cat ../nuhc/photo >/dev/null
expect 1 "Permission denied" confined cat ../nuhc/photo
test ! -e space/nuhc/proof

expect 0 "" confined touch mine
expect 0 "" confined mkdir -p a/b
expect 0 "" confined mv mine a/b/
test "$(stat -c %U space/luv/a/b/mine)" = phobos-pull
expect 1 "" confined mkfifo pipe
expect 1 "" confined mknod device c 1 3
printf '#!/bin/sh\n' >space/luv/program; chmod 755 space/luv/program
expect 1 "Permission denied" confined ./program
