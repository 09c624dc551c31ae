# Ten years of a busy machine, 200,000 runs, are read in little memory; what is no run is counted and hurts nobody.
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

# The mail of this machine is no part of it.
export PHOBOS_MAIL_UNITS=$STORY/mail PHOBOS_MAIL_OWN=$STORY/mail

python3 - <<'END'
import datetime, json
end = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
jobs = [("borgmatic", ""), ("pull", "luv"), ("pull", "nuhc"), ("ext", "A"), ("borg-check", "")]
lines = []
for number in range(200_000):
    job, what = jobs[number % 5]
    start = end - datetime.timedelta(minutes=26 * (200_000 - number))
    run = dict(job=job, object=what, start=start.isoformat(), end=(start + datetime.timedelta(minutes=20)).isoformat(), exit=int(number % 50 == 49))
    if run["exit"]: run["error"] = "rsync failed with exit code 23: 3 files could not be copied \x1b[2J"
    lines.append(json.dumps(run))
text = "\n".join(lines) + "\n"
for number in range(4):
    open(f"/var/lib/phobos/history.jsonl.{number + 1}", "w").write("\n".join(lines[number * 50_000:(number + 1) * 50_000]) + "\n")
# What power cuts and newer versions leave.
with open("/var/lib/phobos/history.jsonl", "wb") as last:
    last.write(b"\0" * 5_000_000 + b"\n{\"schema_version\":2,\"job\":\"x\"}\n\xff\xfe\x1b[2J\n")
    for number in range(1000): last.write(json.dumps(dict(job=f"job{number}", start="2026-01-01T00:00:00Z", end="2026-01-01T00:00:00Z", exit=0)).encode() + b"\n")
    last.write(b'{"job":"borgm')
END
for words in "" "--json" "schedule --days 31"; do
    # shellcheck disable=SC2086 # several words
    within 30000 phobos-status --config "$CONFIG" $words >shown
    never grep -q "$(printf '\033')" shown
    test "$(wc -c <shown)" -lt 200000
done
phobos-status --config "$CONFIG" >shown; cat shown
grep '^LOOK    5 lines of the history are no runs' shown
grep 'runs in the history are of more jobs than are told apart' shown
grep -E '^  luv +(today|yesterday)' shown
