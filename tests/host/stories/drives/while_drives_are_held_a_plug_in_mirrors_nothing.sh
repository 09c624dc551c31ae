# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A
# As systemd starts it, because the drive was plugged in.
plug() { expect "$1" "$2" env INVOCATION_ID=4711 phobos-ext --config "$CONFIG" --drive A; }
light() { phobos-blink jobs --json | tr -d ' \n' | grep -o '"name":"ext-A","state":"[a-z]*"' || true; }
before=$(sha256sum <"$A"); file=/run/phobos/hold.json
expect 0 "no drive that is plugged in is mirrored to until 20" ext hold; test "$(stat -c %a $file)" = 600
plug 0 "the drive A is not mirrored to: drives are held until 20"; test "$(light)" = '"name":"ext-A","state":"attention"'
test "$(sha256sum <"$A")" = "$before"; test ! -e /var/lib/phobos/history.jsonl
# Whoever mirrors by hand means it.
expect 0 finished ext --drive A; test "$(light)" = '"name":"ext-A","state":"ok"'
plug 0 "drives are held"
expect 0 "are mirrored to again" ext hold --off; expect 0 "are mirrored to" ext hold --off
plug 0 finished; test "$(light)" = '"name":"ext-A","state":"ok"'
# It ends by itself.
ext hold --for 1ms; plug 0 finished; test ! -e $file
# What somebody wanted and cannot be understood is not passed over.
echo x >$file; plug 1 "\`phobos-ext hold --off\` removes it"; ext hold --off; plug 0 finished
expect 2 "invalid value 'soon'" ext hold --for soon
expect 77 "only root can do this" setpriv --reuid 65534 --clear-groups "$STORY/phobos-ext" hold
