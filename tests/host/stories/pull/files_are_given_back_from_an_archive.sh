# What a host had on some night: an archive gives files back with all that is known of them, and Borg gets at nothing else meanwhile.
#
# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv
home=luv/home; awkward $home; devices $home
pull luv 2>/dev/null; pull luv 2>/dev/null
export CREDENTIALS_DIRECTORY=$STORY/credentials
mkdir credentials; printf 'the passphrase\n' >credentials/borg-passphrase
night() { inside env BORG_PASSPHRASE='the passphrase' borg create "/backup/borg::$1" /backup/holding; }
inside sh -c 'rm -r /backup/borg; BORG_PASSPHRASE="the passphrase" borg init -e repokey /backup/borg'
night nas-1; cp -a luv/home past; rm -r $home/jon; echo two >$home/two; pull luv 2>/dev/null; night nas-2; rm -rf borg-base
from() { pull restore luv --from archive "$@"; }
# bare: neither Borg nor anything of its is left, here or beside what was given back.
bare() {
    if pgrep -x borg || [ -e borg-base ]; then echo "story: Borg is left, or what it keeps of a repository"; exit 1; fi
    if inside grep /run/phobos/restore /proc/self/mountinfo; then echo "story: Borg's notes are left"; exit 1; fi
    if [ -n "$(find . -name '.phobos-restore-*' -prune -print)" ]; then echo "story: a stage is left"; exit 1; fi
}

# Which there are, and what they have.
from --list >out; never grep -v ' nas-' out; head -n 1 out | grep ' nas-2$'; test "$(wc -l <out)" = 2
from --list --json | python3 -c 'import json, sys; assert [a["name"] for a in json.load(sys.stdin)["archives"]] == ["nas-2", "nas-1"]'
from nas-1 --list /home >out; grep -E '^d.* jon$' out; grep -E '^-.* 8388612 .* sparse$' out; never grep one out
from latest --list /home >out; never grep jon out; grep ' two$' out; bare

# All of it is as it was, then and there.
mkdir back; expect 0 "luv: gave back " from nas-1 /home --to back --privileged; bare
tree past >is; tree back/home >was; diff -a is was | head; cmp is was; grep -F "disk 7:c8" was
(mkdir here; cd here; pull restore luv /home/jon/one /home/sparse --from archive nas-1; cmp one ../past/jon/one; test "$(stat -c '%a %u' one)" = '751 4711'); bare
from nas-1 /home/jon --to here -n >out; grep ' jon/one -> ' out; never grep 'there already' out
from nas-1 /home/jon/one --to here -n | grep 'there already'; from nas-1 --list /home/jon | grep -E '^h.* one -> /home/jon/d/uno$'; test ! -e here/jon
from nas-1 /home/jon/one --to here 2>&1 | grep 'because it was there: one'; expect 0 "gave back" from nas-1 /home/jon/one --to here --overwrite; bare
mkdir all; expect 0 "gave back" from latest / --to all; cmp all/home/two luv/home/two; test ! -e all/home/jon; bare

# What is not there is told before anything is done, and by nobody's light.
expect 66 "luv has no /home/jim in the archive nas-1" from nas-1 /home/jim --to here
expect 66 "luv has no /home/jo in the archive nas-1" from nas-1 /home/sparse /home/jo --to here
expect 66 "there is no archive nas-9" from nas-9 /home --to here; expect 2 "--from archive: name it" pull restore luv /home --from archive
expect 2 "say what is to be given back" from nas-1; bare; never grep -r '"name": *"restore-luv"' /run/phobos/led /var/lib/phobos/led
echo 'source = ["/srv/"]' >pull.d/own.toml; expect 65 "own is this machine itself" pull restore own /srv --from archive nas-1 --to here
printf 'another\n' >credentials/borg-passphrase; expect 65 "the passphrase does not open the repository's key" from nas-1 /home --to here; bare
rm credentials/borg-passphrase; expect 78 "give it as the systemd credential" from nas-1 /home --to here; bare
printf 'the passphrase\n' >credentials/borg-passphrase
# There is room for all of it before any of it is made.
mkdir small; mount -t tmpfs -o size=12m tmpfs small; expect 1 "and there is room for" from nas-1 /home/sparse --to small; test -z "$(ls -A small)"
# Another job that changes the repository is waited for, and one that is killed or stopped leaves nothing that stays.
ns exec --job other --lock repository -- sh -c ': >held; until [ -e over ]; do sleep 0.05; done' & holder=$!
until [ -e "$STORY/held" ] || [ -e held ]; do kill -0 $holder; sleep 0.05; done
expect 75 "the lock repository" pull --lock-wait 0s restore luv --from archive nas-1 /home --to here; touch over; wait $holder
rm -rf back; mkdir back; RANDOM=${PHOBOS_SEED:-$$}
for signal in TERM KILL TERM KILL; do
    phobos-pull --config "$CONFIG" restore luv /home --from archive nas-1 --to back >out 2>&1 & job=$!
    sleep $((RANDOM % 2)).$((RANDOM % 10)); kill -$signal $job 2>/dev/null || true; code=0; wait $job || code=$?
    case $signal-$code in *-0 | TERM-143) bare ;; KILL-137) ended -x borg ;; *) cat out; exit 1 ;; esac
    rm -rf back/home
done
# What is left of a killed one's rsync goes as it does.
ended -f 'rsync.*phobos-restore'
expect 0 "gave back" from nas-1 /home --to back --privileged; tree back/home >was; cmp is was
# A repository that has rotted gives nothing back that is not as it was archived.
# A drive that has the repository alone has its archives.
drive A 200; printf '[external]\nholding = false\n' >>"$CONFIG"; ext --drive A; safe A; rm -rf back; mkdir back
expect 0 "luv: gave back" pull restore luv /home/two --from drive A --to back; cmp back/two luv/home/two; safe A; bare
expect 66 "luv has no /home/jon in the archive nas-2" pull restore luv /home/jon --from drive A --to back; safe A; bare
pull restore luv --list --from drive A | grep ' home$'; safe A; bare
mount "$A" disk.A; mv disk.A/borg disk.A/own; borg init -e none disk.A/borg; umount disk.A; rm -rf borg-base
expect 65 "the drive has another repository than is here" pull restore luv /home/two --from drive A --to back; safe A; bare
# What the repository has lost is not made up for: nothing is given back then.
rm -rf back; mkdir back; inside python3 - <<'END'
import glob
for path in glob.glob("/backup/borg/data/0/*"):
    with open(path, "r+b") as segment:
        data = segment.read()
        at = data.find(b"one\n") if b"one\n" in data else len(data) // 2
        if len(data) > 200:
            segment.seek(at); segment.write(bytes([data[at] ^ 1]))
END
expect 65 "Borg cannot read it: Data integrity error" from nas-1 /home --to back; test -z "$(ls -A back)"; bare
