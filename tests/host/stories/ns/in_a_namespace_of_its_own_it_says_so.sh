# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk
expect 78 "this process runs in a mount namespace of its own" unshare --mount phobos-ns --config "$CONFIG"
ns
expect 78 "remove PrivateTmp=" unshare --mount phobos-ns --config "$CONFIG"
expect 77 "only root can do this" setpriv --reuid 65534 --clear-groups "$STORY/phobos-ns"
