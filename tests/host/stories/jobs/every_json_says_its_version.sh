# What another program may read says which version of its format it is: every --json, the history, and who holds a lock.
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk
ns exec --job j --lock local/x -- sh -c 'cat /run/phobos/lock/local/x.holders/*.json' | grep '^{"schema_version":1,'
grep -c '^{"schema_version":1,"job":"j",' /var/lib/phobos/history.jsonl | grep -x 1
phobos-blink job j failed --text no
mkdir -p pull.d source
echo "source = [\"$STORY/source/\"]" >pull.d/here.toml
says_its_version() { "$@" >out; tr -d ' \n' <out | grep '^{"schema_version":1,'; }
says_its_version ns status --json
says_its_version phobos-blink jobs --json
drive A
says_its_version ext drives --json
says_its_version phobos-pull --config "$CONFIG" list --json
