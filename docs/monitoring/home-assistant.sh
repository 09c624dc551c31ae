#!/bin/sh
# Tells Home Assistant by MQTT how the backups are: a sensor for the machine, one for each job and one for each off-site drive, `on` where
# there is a problem. A hook calls it; it tells the whole state each time, so that a message that was lost is made good by the next call.
# Where the broker is and who asks is in $XDG_CONFIG_HOME/mosquitto_pub. README.md beside it says how to install it.
set -eu

# shellcheck disable=SC2016 # $node and the like are jq's
messages='
def id: gsub("[^A-Za-z0-9_-]"; "_");
(.machine | id) as $node | .machine as $machine
| def sensor($id; $name; $problem; $more):
    "phobos/\($node)/\($id)" as $topic
    | "homeassistant/binary_sensor/phobos_\($node)/\($id)/config \({
        name: $name,
        unique_id: "phobos_\($node)_\($id)",
        device_class: "problem",
        state_topic: $topic,
        value_template: "{{ value_json.problem }}",
        json_attributes_topic: $topic,
        # A day and a half: after two nights without a word, nothing is known any more.
        expire_after: 129600,
        device: {identifiers: ["phobos_\($node)"], name: "Backups of \($machine)", model: "phobos"},
        origin: {name: "phobos"}
      } | tojson)",
      "\($topic) \({problem: (if $problem then "ON" else "OFF" end)} + $more | tojson)";
sensor("machine"; "State"; .state != "ok"; {state, findings: [.findings[].what]}),
(.jobs[] | sensor("job_\(.name | id)"; .name;
    # A host that was not there is no problem until its copy is too old.
    .late or (.last != null and .last.exit != 0 and (.kind != "pull" or .last.exit != 66));
    {last_good, next, exit: .last.exit, error: .last.error})),
(.drives[] | sensor("drive_\(.name | id)"; "drive \(.name) overdue"; .overdue; {plugged_in, mirrored, due_by}))'

status=$(phobos-status --json)
lines=$(printf '%s' "$status" | jq -r "$messages")
# The broker forgets a state when it has grown too old: told once more to who asks later, it would count from then on.
printf '%s\n' "$lines" | while read -r topic payload; do
    case $topic in homeassistant/*) set -- ;; *) set -- -V mqttv5 -D publish message-expiry-interval 129600 ;; esac
    mosquitto_pub "$@" -q 1 -r -t "$topic" -m "$payload"
done
