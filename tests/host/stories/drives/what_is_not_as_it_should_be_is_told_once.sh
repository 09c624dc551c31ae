# The wrong drive, one that is overdue, two at home: a line in the journal, one mail, and with the daily look the light.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

# Nobody takes the mail here: it waits, where it can be counted.
export PHOBOS_MAIL_OWN=$STORY/spool PHOBOS_MAIL_UNITS=$STORY/none
subjects() { phobos-mail --config "$CONFIG" list --json | grep -o '"subject": "[^"]*"' || true; }
mails() { subjects | wc -l; }
light() { phobos-blink jobs --json | tr -d ' \n' | grep -o "\"name\":\"$1\",\"state\":\"[a-z]*\"" || true; }
past() { date -u -d "-$1 days" +%FT%TZ; }
ledger=/var/lib/phobos/drives.json
# remember A B: A and B were mirrored to so many days ago, the older one first.
remember() {
    local a=1 b=2; if [ "$1" -lt "$2" ]; then a=2 b=1; fi
    cat >$ledger <<END
{"schema_version": 1, "drives": {
    "A": {"mirror": {"number": $a, "mirrored": "$(past "$1")"}},
    "B": {"mirror": {"number": $b, "mirrored": "$(past "$2")"}}}}
END
}
printf '[mail]\ntransport = "smtp://127.0.0.1:9"\n' >>"$CONFIG"
backup_disk; drive A; drive B
# The right drive is a matter of course.
remember 60 30; expect 0 finished ext --drive A; never grep warn: out; test "$(mails)" = 0
# The wrong one is told, once; the light is green all the same.
remember 60 30; expect 0 "the drive B was mirrored to twice in a row, and A is due; bring A" ext --drive B; grep "kept in $STORY/spool" out
expect 0 "twice in a row" ext --drive B; test "$(mails)" = 1; subjects | grep "twice in a row"
test "$(light ext-B)" = '"name":"ext-B","state":"ok"'; test -z "$(light drives)"
expect 0 finished ext --drive A; never grep "twice in a row" out; grep '"told": \[\]' $ledger
# One that is missed is told by the daily look.
remember 36 80; expect 0 "the drive B is overdue: it was to be brought by" ext drives --tell; never grep "is next" out
test "$(light drives)" = '"name":"drives","state":"attention"'; test "$(mails)" = 2; subjects | grep "B is overdue"
ext drives --tell; test "$(mails)" = 2
expect 0 finished ext --drive B; test -z "$(light drives)"; test "$(mails)" = 2
# Two that stay at home: udev knows since when.
mkdir -p /run/udev/data
for drive in "$A" "$B"; do echo I:-90000000000 >"/run/udev/data/b$(lsblk -dno MAJ:MIN "$drive" | tr -d ' ')"; done
expect 0 "have been plugged in together for more than a day; take one away" ext drives --tell; test "$(mails)" = 3
rm -r /run/udev; ext drives --tell; test -z "$(light drives)"; grep '"told": \[\]' $ledger
# Whoever wants it is told of a good mirror too, and of nothing else by the same mail.
sed -i 's/^\[led\]/[external]\nnotice = true\n&/' "$CONFIG"; remember 30 60; expect 0 finished ext --drive B
test "$(mails)" = 4; subjects | grep -x '"subject": "B is safe to take away; bring A by .* 20[0-9][0-9]"'
# What a disk says of itself is asked at each mirror, and only a disk that was asked is good.
expect 0 "" ext drives; grep "health on .*: unknown, smartctl is not installed" <(tr -s '\n ' ' ' <out)
smart() { printf '#!/bin/sh\ncase $4 in /dev/loop*) ;; *) exit 2 ;; esac\n%s\n' "$1" >smartctl; chmod 755 smartctl; }
smart "echo '{\"smart_status\":{\"passed\":true}}'"; ext --drive A; expect 0 ": good" ext drives
smart "echo '{\"smart_status\":{\"passed\":false}}'; exit 8"
expect 0 "the disk of the drive B fails: it expects to fail soon; replace it" ext --drive B
subjects | grep "the disk of the drive . fails"; ext drives --tell; test "$(light drives)" = '"name":"drives","state":"attention"'
ext drives --json | grep '"health": "failing"'
smart "echo '{\"smart_status\":{\"passed\":true}}'"; ext --drive B; ext drives --tell; test -z "$(light drives)"; rm smartctl
# Where no mail can be sent at all, the mirror is as good.
rm phobos-mail; remember 30 60; expect 0 finished ext --drive B; grep "warn: .*phobos-mail" out; test "$(light ext-B)" = '"name":"ext-B","state":"ok"'
# A rehearsal tells nobody.
remember 60 30; cp $ledger before; expect 0 "" ext --dry-run --drive B; never grep "twice in a row" out; cmp $ledger before
