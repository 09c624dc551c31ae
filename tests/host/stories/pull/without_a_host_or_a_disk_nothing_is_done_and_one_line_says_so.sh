# On a fresh install nothing is pulled, and nothing is made: the timer of all hosts has no reason to fail.
#
# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

# Written in place: /etc/fstab is this very file.
cp fstab with_disk; never grep -v ' /backup ' with_disk >fstab
none="no host is configured, nothing to pull; one is a [[pull]] table in phobos.toml or a file $STORY/pull.d/NAME.toml"
expect 0 "$none" pull --all; test "$(wc -l <out)" = 1
expect 0 "$none" pull list; test "$(wc -l <out)" = 1
pull --all --json 2>/dev/null | tr -d ' \n' | grep -xF '{"schema_version":1,"pulls":[]}'
pull list --json 2>/dev/null | tr -d ' \n' | grep -xF '{"schema_version":1,"hosts":[]}'
phobos-blink jobs >out; never grep pull out
never test -e "$NS"
# With a host, what is missing is said, with what to do.
configure luv "source = ['root@luv:/home/']"
expect 78 "no entry for /backup in " pull list; grep "add one with the option noauto" out; test "$(wc -l <out)" = 1
# A run that cannot begin is told like any other that fails, and made good by one that can.
HISTORY=/var/lib/phobos/history.jsonl
expect 78 "no entry for /backup in " pull --all; phobos-blink jobs | grep 'pull  *failed.*no entry for /backup'
expect 78 "no entry for /backup in " pull luv; phobos-blink jobs | grep 'pull-luv  *failed.*no entry for /backup'
for object in '' '"object":"luv",'; do
    grep -F "\"job\":\"pull\",$object\"start\"" $HISTORY | grep '"exit":78,"error":"no entry for /backup'
done
expect 78 "no entry for /backup in " pull --dry-run luv; test "$(wc -l <$HISTORY)" = 2
# A wrong word on the command line is one line, and no failure of a pull's.
expect 2 "unexpected argument '--al' found; did you mean '--all'?; see \`phobos-pull --help\`" pull --al
test "$(wc -l <out)" = 1
expect 2 "is no name for a host" pull ../luv; test "$(wc -l <out)" = 1
expect 2 "see \`phobos-pull --help\`" pull; test "$(wc -l <out)" = 1
expect 2 "; see \`phobos-ns --help\`" ns exce; test "$(wc -l <out)" = 1
expect 2 "the command goes behind \`--\`: phobos-ns exec -- ls; see \`phobos-ns --help\`" phobos-ns exec ls
expect 2 "; see \`phobos-ext --help\`" ext --al; test "$(wc -l <out)" = 1
test "$(wc -l <$HISTORY)" = 2
# A host that was never pulled, on a disk that is there, is new.
cat with_disk >fstab
expect 0 "luv   new " pull list
rm keys/pull
expect 78 "there is no key " pull --all
phobos-blink jobs | grep 'pull-luv  *failed.*there is no key'; phobos-blink jobs >out; never grep 'pull  *failed' out
expect 78 "no host is called liv; did you mean luv? If not, give it a [[pull]] table" pull liv
expect 78 "no host is called lsit; did you mean \`phobos-pull list\`? If not, " pull lsit
phobos-blink jobs | grep 'pull-lsit  *failed'
