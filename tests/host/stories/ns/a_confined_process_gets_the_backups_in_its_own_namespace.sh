# What systemd confines stays confined: `exec` brings the backups to a process in a namespace of its own, and to nobody else.
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk
ns
inside sh -c 'echo photo >/backup/photo'
unshare --mount phobos-ns --config "$CONFIG" exec -- cat /backup/photo | grep photo
# It is still where it was, within limits of its own, and sees the backups where nobody outside does.
mkdir usr
cat >confined <<END
mount --bind usr usr; mount -o remount,bind,ro usr
phobos-ns --config "$CONFIG" exec -- sh -c '! touch "$STORY/usr/planted" && touch /backup/written'
END
unshare --mount --propagation unchanged sh -e confined
test ! -e usr/planted
inside test -e /backup/written
never outside_sees /backup
# Once more within: what is there already is taken.
unshare --mount phobos-ns --config "$CONFIG" exec -- phobos-ns --config "$CONFIG" exec -- test -e /backup/photo
# Who has it is known, and the namespace is not taken away under it.
mkfifo go
unshare --mount phobos-ns --config "$CONFIG" exec -- cat "$STORY/go" &
until ns status | grep 'in it: `cat '; do sleep 0.05; done
expect 75 "cannot remove the namespace: there are \`cat " ns remove
echo >go; wait $!
ns remove
