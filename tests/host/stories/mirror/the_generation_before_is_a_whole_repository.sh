# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ext; inside borg create /backup/borg::two /etc/hostname
inside borg delete /backup/borg::one; inside borg compact --threshold 1 /backup/borg
code=0; ext || code=$?; if [ $code = 65 ]; then ext --accept "$(phobos-ext --config "$CONFIG" 2>&1 | grep -o 'accept [0-9a-f]*$' | cut -d' ' -f2)"; fi
mount "$A" disk.A; borg check disk.A/borg; never borg list disk.A/borg::one
before=$(echo disk.A/.phobos/generation/*); export BORG_BASE_DIR=$STORY/another; borg check "$before"; borg extract --dry-run "$before::one"
test "$(stat -c %a disk.A/.phobos)" = 700; test -s disk.A/HOW-TO-RESTORE.txt; umount disk.A
