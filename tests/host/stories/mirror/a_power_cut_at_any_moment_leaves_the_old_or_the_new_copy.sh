# All that a mirror has the drive write is recorded. After a flush the drive has everything that came before it, and any part of what
# comes then: so a power cut leaves one of these states. In each the repository is, bit for bit, the old one or the new one, and the
# next run makes it the new one. Every flush is looked at; each tenth, from one by lot on, also with parts of what comes then, and
# with PHOBOS_LONG each.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"
# shellcheck source=../../failing.sh
. "$HOST/failing.sh"

backup_disk; ns; inside borg create /backup/borg::two /etc/hostname
EXT4='-b 4096 -E lazy_itable_init=0,lazy_journal_init=0'; drive A 80 failing; mkdir disk.cut; ext
repository() { find "$1/borg" -type f -printf '%P\n' | sort | (cd "$1/borg" && xargs sha256sum) | sha256sum; }
mount "$A" disk.A; old=$(repository disk.A); umount disk.A
inside borg delete /backup/borg::two; inside sh -c 'head -c 6000000 /dev/urandom >/backup/holding/luv/film'
inside borg create --compression none /backup/borg::three /backup/holding; inside borg compact --threshold 1 /backup/borg
order A record; expect 0 finished ext; safe A; flushes=$(told A flush); writes=$(told A write)
new=$(inside sh -c 'cd /backup/borg && find . -type f ! -name "lock.*" -printf "%P\n" | sort | xargs sha256sum' | sha256sum); test "$old" != "$new"

lot 10; from=$drawn step=10 parts=3
if [ "$PHOBOS_LONG" ]; then from=1 step=1 parts=10; fi
cuts=$(seq 0 "$flushes")
for flush in $(seq "$from" "$step" "$flushes"); do
    for _ in $(seq $parts); do lot 1000000; cuts="$cuts $flush.$drawn"; done
done
echo "$flushes flushes and $writes writes; looked at: ${cuts//$'\n'/ }"
test "$flushes" -ge 20
is_old=0 is_new=0
# Whether the cut has the old copy or the new one.
one_or_other() {
    local found; found=$(repository disk.cut || true)
    if [ "$found" = "$old" ]; then is_old=$((is_old + 1)); elif [ "$found" = "$new" ]; then is_new=$((is_new + 1)); else
        echo "story: the cut $cut has neither the old nor the new repository"; ls -lR disk.cut; exit 1
    fi
}
for cut in $cuts; do looks "A/cut.$cut" one_or_other; done
echo "$is_old old, $is_new new"; test $is_old -ge 1; test $is_new -ge 1

# after CUT: borg finds nothing wrong with it, and the next run ends well.
after() {
    local cut; attach cut "A/cut.$1"
    # Borg remembers the newest state that it has seen of a repository.
    rm -rf elsewhere; sound cut
    sed "s|device = \"$A\"|device = \"$cut\"|" "$CONFIG" >"$STORY/cut.toml"
    expect 0 finished phobos-ext --config "$STORY/cut.toml"; safe cut; sound cut
    mount "$cut" disk.cut; test "$(repository disk.cut)" = "$new"; cmp disk.cut/holding/luv/film <(inside cat /backup/holding/luv/film)
    never test -e disk.cut/.phobos/run.json; umount disk.cut; free "$cut"; rm "A/cut.$1"
}
lot 1000000; seed=$drawn; lot $((flushes - 1)); runs="$drawn.$seed"
if [ "$PHOBOS_LONG" ]; then for flush in $(seq 0 "$flushes"); do lot 1000000; runs="$runs $flush.$drawn"; done; fi
for cut in $runs; do echo "the run after $cut"; after "$cut"; done
