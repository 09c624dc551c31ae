# A hook gets one document for each thing that has happened since the last time, and one that hangs or fails is a warning.
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

# The mail of this machine is no part of it.
export PHOBOS_MAIL_UNITS=$STORY/mail PHOBOS_MAIL_OWN=$STORY/mail
tell() { phobos-status --config "$CONFIG" hook --memory "$STORY/told.json"; }
job() { phobos-ns --config "$CONFIG" exec --no-namespace --job night -- sh -c "$1"; }
tell; test ! -e told.json
cat >>"$CONFIG" <<END
[[hook]]
on = ["failed", "resolved", "ok"]
command = ["/bin/sleep", "300"]
limit = "1s"
[[hook]]
on = ["failed", "resolved"]
command = ["/bin/sh", "-c", "cat >>$STORY/told; echo >>$STORY/told"]
END
job true; tell; test ! -e told; test "$(stat -c %a told.json)" = 600
job 'exit 3' || true; tell 2>warned; cat warned; grep 'a hook was not told that night failed' warned
tell; test "$(wc -l <told)" = 1
job true; tell
python3 - <<'END'
import json
told = [json.loads(line) for line in open("told")]
assert [(one["schema_version"], one["event"], one["job"], one["exit"]) for one in told] == [(1, "failed", "night", 3), (1, "resolved", "night", 0)], told
assert told[0]["text"] == "night failed: sh failed with exit code 3", told
END
sed -i 's/^on = .*/on = ["fails"]/' "$CONFIG"; expect 78 'unknown variant `fails`' tell
# A mistake there keeps no job from its work.
job true
