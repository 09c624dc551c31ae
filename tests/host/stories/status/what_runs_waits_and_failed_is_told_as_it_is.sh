# What is told is what is: a job at work, one that waits for it, one that failed, and a machine where nothing has run.
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

# The mail of this machine is no part of it.
export PHOBOS_MAIL_UNITS=$STORY/mail PHOBOS_MAIL_OWN=$STORY/mail

status() { phobos-status --config "$CONFIG" "$@" >screen; cat screen; awk 'length($0) > 80 { exit 1 }' screen; }
never_made() { test ! -e $NS || ! findmnt $NS; }

# Nothing has run: nothing is made by looking.
backup_disk
status; head -1 screen | grep ': all is well$'; grep 'nothing runs' screen
status schedule; grep 'Nothing has run here yet' screen
never_made; test ! -e /var/lib/phobos/history.jsonl; test ! -e /run/phobos/lock

# A host, a drive, and how they went.
mkdir -p pull.d source; echo photo >source/photo
echo "source = [\"$STORY/source/\"]" >pull.d/here.toml
phobos-pull --config "$CONFIG" here
drive A; ext
status; head -1 screen | grep ': all is well$'
grep -E '^  here +today [0-9:]{5} ' screen; grep -E '^  A +plugged in.*; mirrored today' screen
tr -s ' \n' ' ' <screen | grep 'MB free; is next, by'; grep -E '^Backup disk +[0-9.]+ .B used' screen
# A unit that systemd confines sees the same.
unshare --mount phobos-status --config "$CONFIG" >screen; cat screen; grep -E '^Backup disk +[0-9.]+ .B used' screen; grep -E '^  here .* 6 B ' screen
status schedule; grep -E '^[0-9]{2}00 .*here' screen; grep -E '^  today .*drive A' screen; grep 'Best time to plug in a drive: now' screen

# One works, another waits for it, by name; both are in the JSON too.
mkfifo go
ns exec --job borgmatic --lock holding --lock repository -- sh -c 'read x <go' & night=$!
until phobos-ns --config "$CONFIG" status | grep 'held by: borgmatic'; do kill -0 $night; done
phobos-pull --config "$CONFIG" here & pull=$!
until phobos-ns --config "$CONFIG" status | grep 'awaited by: pull-here'; do kill -0 $pull; done
status; grep -E '^  borgmatic +since [0-9:]{5}' screen
tr -s ' \n' ' ' <screen | grep -E 'here waits since [0-9:]{5} for borgmatic \(lock holding\)'
status --json; python3 - <<'END'
import json
told = json.load(open("screen"))
assert told["schema_version"] == 1 and told["state"] == "ok", told
running = {run["name"]: run for run in told["running"]}
assert running["borgmatic"]["waits_for"] == [], running
assert running["here"]["waits_for"][0]["holders"] == ["borgmatic"], running
assert told["best_time"]["from"] > told["at"], told["best_time"]
assert [job["name"] for job in told["jobs"]] == ["borgmatic", "here", "drive A"], told["jobs"]
END
echo >go; wait $night; wait $pull
status; grep 'nothing runs' screen

# A failure is told once, with what was said and what to do, until the next good run.
rm -r source
never phobos-pull --config "$CONFIG" here
status; head -1 screen | grep ': 1 thing wrong$'; test "$(grep -c '^FAILED' screen)" = 1
grep '^FAILED  pull of here failed today' screen; grep 'phobos-pull here. tries again' screen
mkdir source; echo photo >source/photo; phobos-pull --config "$CONFIG" here
status; head -1 screen | grep ': all is well$'

# So are the figures for other programs.
expect 0 'PHOBOS OK - all is well | failed=0;;1;0' phobos-status --config "$CONFIG" check
status metrics --output figures/phobos.prom; test "$(stat -c %a figures/phobos.prom)" = 644
grep -E '^phobos_job_last_success_timestamp_seconds\{job_name="pull",object="here"\} [0-9]+$' figures/phobos.prom
phobos-blink job pull-here failed --text no || true
expect 2 'PHOBOS CRITICAL - pull of here failed' phobos-status --config "$CONFIG" check
phobos-blink ack pull-here || true

# Colours are for a terminal, and for whoever wants them; whoever watches sees it again and again.
on_a_terminal() { script -qec "$1 phobos-status --config $CONFIG" /dev/null >shown; }
escape=$(printf '\033')
on_a_terminal ''; grep -q "$escape" shown; on_a_terminal NO_COLOR=1; never grep -q "$escape" shown; never grep -q "$escape" screen
phobos-status --config "$CONFIG" --watch >shown & watch=$!
until [ "$(grep -c '^Light' shown)" -ge 2 ]; do kill -0 $watch; done
kill -TERM $watch; wait $watch

# Who is not root sees the rest, and reads in one line what he does not see. A table that is wrong hides no other.
mkdir for-all; mount -t tmpfs tmpfs for-all; cp -L phobos-status "$CONFIG" for-all; chmod 755 for-all
cat drives.d/* 2>/dev/null || true
setpriv --reuid 65534 --clear-groups for-all/phobos-status --config for-all/phobos.toml >screen; cat screen
test "$(grep -c 'Only root sees' screen)" = 1; tail -1 screen | grep '^Only root sees holding spaces, mail and room; run it with sudo.$'
grep -E '^  borgmatic +today' screen; never grep 'Backup disk' screen
chmod 600 for-all/phobos.toml
setpriv --reuid 65534 --clear-groups for-all/phobos-status --config for-all/phobos.toml >screen; cat screen
head -1 screen | grep ': all is well$'; grep '^Only root sees settings, holding spaces, mail and room; run it with sudo.$' screen
echo '[backup]
mount = 1' >>"$CONFIG"
status; head -1 screen | grep ': 1 thing wrong$'; grep -E '^FAILED .*phobos.toml:' screen; grep -E '^  A +plugged in' screen
expect 2 "see \`phobos-status --help\`" phobos-status --watchh
expect 2 "for the screen alone" phobos-status --watch schedule
expect 2 "from 1 to 31" phobos-status schedule --days 0
