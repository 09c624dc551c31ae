# The recipes of docs/monitoring/README.md as they stand there, told by the unit's own command as nobody: what they send arrives at a server
# with TLS that answers to the names in them, and at an MQTT broker that asks for a password.
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"
require apprise curl jq mosquitto mosquitto_passwd mosquitto_pub mosquitto_sub openssl

export PHOBOS_MAIL_UNITS=$STORY/mail PHOBOS_MAIL_OWN=$STORY/mail
page=$HOST/../../docs/monitoring/README.md
# indented FIRST: the block of the page that begins with such a line.
indented() { sed -n "/^    $1/,/^\$/s/^    //p" "$page"; }

# The names in the recipes are this machine's own, and it vouches for them.
hosts=$(indented '\[\[hook' | grep -o 's://[^/" ]*' | cut -c5-; indented '-h' | sed -n 's/^-h //p')
test "$(wc -w <<<"$hosts")" = 4
# shellcheck disable=SC2086 # a word each
printf '127.0.0.1 %s\n' localhost $hosts >names; mount --bind names /etc/hosts
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=all -keyout key.pem -out cert.pem -days 2 \
    -addext "subjectAltName=DNS:${hosts//$'\n'/,DNS:}" 2>/dev/null
mount --bind cert.pem /etc/ssl/certs/ca-certificates.crt
ip link set lo up
python3 - <<'END' & web=$!
import http.server, json, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        with open("requests", "a") as file:
            print(json.dumps([self.command, self.headers["Host"] + self.path, self.headers["Title"], body]), file=file)
        self.send_response(200); self.end_headers()
    do_POST = do_PUT = do_GET
server = http.server.HTTPServer(("127.0.0.1", 443), Handler)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("cert.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
END
mkdir broker
printf 'listener 1883 127.0.0.1\nallow_anonymous false\npassword_file %s/broker/users\nuser root\nlog_type error\n' "$STORY" >broker/conf
mosquitto_passwd -b -c broker/users phobos YOUR-PASSWORD
mosquitto -c broker/conf & broker=$!
for port in 443 1883; do until ss -Hltn "sport = $port" | grep -q .; do kill -0 $web $broker; sleep 0.02; done; done

# Installed as the page says; the unit has no right but to read, and systemd lends it a file.
mount -t tmpfs -o mode=755 tmpfs /usr/local/bin
(cd "$HOST/../.."; indented 'install -m' | sh -eux)
mkdir -p /run/nas/told /run/nas/credentials; touch /run/nas/phobos-status
mount --bind "$(readlink -f phobos-status)" /run/nas/phobos-status
printf '#!/bin/sh\nexec /run/nas/phobos-status --config /run/nas/phobos.toml "$@"\n' >/usr/local/bin/phobos-status
chmod 755 /usr/local/bin/phobos-status
printf '[[external.drive]]\nname = "A"\ndevice = "/dev/not-here"\n\n' | cat "$CONFIG" - >/run/nas/phobos.toml
indented '\[\[hook' >>/run/nas/phobos.toml; test "$(grep -c '^command' /run/nas/phobos.toml)" = 4
indented '-h' >/run/nas/credentials/mosquitto_pub; chmod 400 /run/nas/credentials/mosquitto_pub
chown -R 65534:65534 /run/nas/told /run/nas/credentials
start=$(sed -n 's/^ExecStart=//p' "$HOST/../../phobos-status/dist/phobos-status-hook.service" | sed 's#/var/lib/phobos-status-hook#/run/nas/told#')
lent=$(indented '\[Service\]' | sed -n '/LoadCredential=mosquitto_pub:/,$s#^Environment=\(.*\)%d#\1/run/nas/credentials#p')
tell() {
    # shellcheck disable=SC2086 # as systemd splits it
    (cd /; setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin "$lent" $start) 2>warned
    cat warned; test ! -s warned
}
job() { phobos-ns --config "$CONFIG" exec --no-namespace --job borgmatic -- sh -c "$1"; }
# retained: what the broker tells somebody who comes later, and whether it kept it.
retained() { mosquitto_sub -h 127.0.0.1 -u phobos -P YOUR-PASSWORD -t '#' -V mqttv5 -F '%r %E %t %p' -W 3 -C 8; }

tell; job true; tell; retained >well
job 'exit 3' || true; tell; retained >failed
job true; tell; retained >again
python3 - <<'END'
import json, re
sent = [json.loads(line) for line in open("requests")]
bad, good = "borgmatic failed: sh failed with exit code 3", "borgmatic works again"
def to(url):
    return [(how, title, body) for how, where, title, body in sent if where == url]
assert to("hc-ping.com/YOUR-UUID") == [("GET", None, "")] * 2, sent
assert to("ntfy.sh/YOUR-TOPIC") == [("POST", "backups", text + "\n") for text in (bad, good)], sent
told = [json.loads(body) for _, _, body in to("notify.example.org/backups")]
assert [(one["title"], one["message"].strip()) for one in told] == [("backups", bad), ("backups", good)], sent
assert len(sent) == 6, sent

# What Home Assistant's documentation of the discovery and of this kind of sensor demands.
def sensors(file):
    kept = [line.rstrip("\n").split(" ", 3) for line in open(file)]
    assert all(flag == "1" for flag, _, _, _ in kept), kept
    # What is known is kept for as long as it is true, what there is for good.
    left = {topic: int(left or 0) for _, left, topic, _ in kept}
    assert all((129000 < left[topic] <= 129600) != topic.startswith("homeassistant/") for topic in left), kept
    payloads = {topic: json.loads(payload) for _, _, topic, payload in kept}
    found = {}
    for topic, config in payloads.items():
        if topic.startswith("homeassistant/"):
            assert re.fullmatch(r"homeassistant/binary_sensor/[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/config", topic), topic
            node, sensor = topic.split("/")[2:4]
            assert config["unique_id"] == f"{node}_{sensor}" and config["device"]["identifiers"] == [node], config
            assert (config["device_class"], config["expire_after"]) == ("problem", 129600) and config["origin"]["name"], config
            assert config["value_template"] == "{{ value_json.problem }}", config
            assert config["json_attributes_topic"] == config["state_topic"] != topic, config
            found[config["name"]] = payloads[config["state_topic"]]
    assert len(payloads) == 2 * len(found), payloads
    return found
well, failed, again = map(sensors, ["well", "failed", "again"])
assert sorted(well) == ["State", "borgmatic", "drive A", "drive A overdue"] == sorted(failed), (well, failed)
assert [name for name in well if well[name]["problem"] != "OFF"] == [], well
assert sorted(name for name in failed if failed[name]["problem"] == "ON") == ["State", "borgmatic"], failed
assert failed["borgmatic"]["exit"] == 3 and failed["borgmatic"]["last_good"] == well["borgmatic"]["last_good"], failed
assert any("borgmatic failed" in what for what in failed["State"]["findings"]), failed
assert again["borgmatic"]["problem"] == "OFF" and again["State"]["findings"] == [], again
END

# What keeps the whole state from being told is a failure of the hook, which it warns of.
expect 5 'not authorised' env -i PATH="$PATH" phobos-home-assistant
expect 127 'phobos-status: not found' env -i PATH=/usr/bin:/bin /usr/local/bin/phobos-home-assistant
