# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk
expect 78 "this process runs in a mount namespace of its own" unshare --mount phobos-ns --config "$CONFIG"
ns
expect 78 "remove PrivateTmp=" unshare --mount phobos-ns --config "$CONFIG"
expect 77 "only root can do this" setpriv --reuid 65534 --clear-groups "$STORY/phobos-ns"
# As in a container, where root may not look at PID 1.
expect 77 "cannot look at /proc/1/ns/mnt: CAP_SYS_PTRACE is missing; in a container, start it with that capability or run this on" \
    setpriv --bounding-set -sys_ptrace phobos-ns --config "$CONFIG" status
