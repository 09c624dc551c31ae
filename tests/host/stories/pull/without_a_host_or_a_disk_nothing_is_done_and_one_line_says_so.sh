# On a fresh install nothing is pulled, and nothing is made: the timer of all hosts has no reason to fail.
#
# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

# Written in place: /etc/fstab is this very file.
cp fstab with_disk; never grep -v ' /backup ' with_disk >fstab
none="no host is configured, nothing to pull; one is a [[pull]] table in phobos.toml or a file $STORY/pull.d/NAME.toml"
expect 0 "$none" pull --all; test "$(wc -l <out)" = 1
expect 0 "$none" pull list; test "$(wc -l <out)" = 1
test "$(pull --all --json 2>/dev/null)" = "[]"; test "$(pull list --json 2>/dev/null)" = "[]"
never test -e "$NS"
# With a host, what is missing is said, with what to do.
configure luv "source = ['root@luv:/home/']"
expect 78 "no entry for /backup in " pull list; grep "add one with the option noauto" out; test "$(wc -l <out)" = 1
expect 78 "no entry for /backup in " pull --all
# A host that was never pulled, on a disk that is there, is new.
cat with_disk >fstab
expect 0 "luv   new " pull list
