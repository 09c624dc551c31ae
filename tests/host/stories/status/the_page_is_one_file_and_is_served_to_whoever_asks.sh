# The page is one file, put in place in one step, for all to read; a browser gets the same, as it is now.
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

# The mail of this machine is no part of it.
export PHOBOS_MAIL_UNITS=$STORY/mail PHOBOS_MAIL_OWN=$STORY/mail
status() { phobos-status --config "$CONFIG" "$@"; }
backup_disk
mkdir -p pull.d source; echo photo >source/photo
echo "source = [\"$STORY/source/\"]" >pull.d/here.toml
phobos-pull --config "$CONFIG" here
umask 077
status page --output new/folder/status.html
test "$(stat -c '%a %a' new/folder/status.html)" = '644 644'; test "$(stat -c %a new/folder)" = 755; test "$(ls new/folder)" = status.html
grep -F '<h3>here</h3>' new/folder/status.html; grep -F '<span class="badge good">all is well</span>' new/folder/status.html
test "$(wc -c <new/folder/status.html)" -lt 400000; never grep -E '<script|https?:|src=|href=' new/folder/status.html
(cd new/folder; status page --output status.html); status page >printed; grep '^<!DOCTYPE html>' printed
expect 1 'cannot write /proc/status.html' status page --output /proc/status.html
expect 2 'see `phobos-status --help`' status page --output a --serve 127.0.0.1:1
expect 2 'this has no JSON' status page --json

ip link set lo up
phobos-status --config "$CONFIG" page --serve 127.0.0.1:0 2>told & server=$!
until grep -so 'http://127[^ ]*' told >where; do kill -0 $server; done
rm source/photo; never phobos-pull --config "$CONFIG" here
python3 - "$(cat where)" <<'END'
import sys, urllib.request
answer = urllib.request.urlopen(sys.argv[1])
page = answer.read().decode()
assert "1 wrong" in page and "default-src 'none'" in answer.headers["Content-Security-Policy"], page
END
kill -TERM $server; wait $server
