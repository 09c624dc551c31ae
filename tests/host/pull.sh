# The shell of stories about pulls: clients with a network, an sshd and a /home of their own.
# shellcheck shell=bash source=miniature.sh
. "$HOST/miniature.sh"
require sshd ssh rrsync getfacl getfattr script ip
set -E
{ cat /etc/passwd; echo 'phobos-pull:x:990:990::/nonexistent:/usr/sbin/nologin'; } >passwd
{ cat /etc/group; echo 'phobos-pull:x:990:'; } >group
echo '127.0.0.1 localhost' >hosts
for file in passwd group hosts; do mount --bind $file /etc/$file; done
export HOME=/root
mkdir -p /run/sshd pull.d keys
ssh-keygen -q -t ed25519 -N '' -C phobos -f keys/pull
touch known_hosts
EXT4='-N 300000 -I 512 -O inline_data'
backup_disk
# The holding space that the mirror's stories have is no host's here.
mount "$bdisk" disk.bdisk; rm -r disk.bdisk/holding/luv; umount disk.bdisk
CLIENTS=0
# What a mark says is JSON, one key a line.
HOLDING=/backup/holding
RRSYNC='restrict,command="rrsync -ro /"'

# client NAME [LINE…]: a machine whose /home is the folder NAME/home, known to us, and these lines in its configuration.
client() {
    local name=$1 number=$((++CLIENTS))
    shift
    mkdir -p "$name/home"
    ip netns add "$name"
    ip link add "v$name" type veth peer name eth0 netns "$name"
    ip addr add "10.9.$number.1/24" dev "v$name"
    ip link set "v$name" up
    ip -n "$name" addr add "10.9.$number.2/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" link set lo up
    echo "10.9.$number.2 $name" >>hosts
    ssh-keygen -q -t ed25519 -N '' -C '' -f "$name.hostkey"
    echo "$name $(cut -d' ' -f1,2 "$name.hostkey.pub")" >>known_hosts
    let_in "$name" "$RRSYNC"
    printf 'Port 22\nHostKey %s\nAuthorizedKeysFile %s\nPidFile %s\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n' \
        "$STORY/$name.hostkey" "$STORY/$name.keys" "$STORY/$name.pid" >"$name.sshd"
    server "$name"
    configure "$name" "source = ['root@$name:/home/']" "$@"
}

# server NAME: its sshd, after it has run $ON_MOUNT; it listens when this returns.
server() {
    ip netns exec "$1" sh -c \
        "mount --bind '$STORY/$1/home' /home; ${ON_MOUNT:-:}; exec /usr/sbin/sshd -f '$STORY/$1.sshd' -E '$STORY/$1.log'"
    # It is in the background before it has said by which number.
    until [ -s "$STORY/$1.pid" ]; do sleep 0.02; done
}

# restart NAME: its sshd anew.
restart() {
    kill "$(cat "$1.pid")"
    until ! ip netns exec "$1" ss -Hltn 'sport = 22' | grep -q .; do :; done
    server "$1"
}

# let_in NAME OPTIONS: what our key may do there.
let_in() { echo "$2 $(cat keys/pull.pub)" >"$1.keys"; }

# configure NAME LINE…: the host's whole configuration.
configure() {
    local name=$1
    shift
    printf '%s\n' "$@" >"pull.d/$name.toml"
}

# owner NAME: whose the client's holding space is.
owner() { inside stat -c %u "$HOLDING/$1"; }

pull() { phobos-pull --config "$CONFIG" "$@"; }

# awkward HOME: what is easily lost on the way: links, rights, attributes, a hole, names. It has not changed for an hour.
awkward() {
    mkdir -p "$1/jon/d"
    echo one >"$1/jon/one"; ln "$1/jon/one" "$1/jon/d/uno"
    setfacl -m u:4711:rwx,g:4712:r "$1/jon/one"; setfattr -n user.bytes -v 0x00ff0a "$1/jon/one"
    truncate -s 8M "$1/sparse"; echo end >>"$1/sparse"
    chown -R 4711:4712 "$1/jon"; chmod 4751 "$1/jon/one"; chmod 1777 "$1/jon/d"; mkfifo "$1/pipe"
    ln -s /etc/passwd "$1/absolute"; echo x >"$1/"$'\xff\xfe\e[2J'; mkdir "$1/closed"; chmod 000 "$1/closed"
    find "$1" -newermt '1 hour ago' -exec touch -hd '1 hour ago' {} +
}

# devices FOLDER: two, which are made again on a word alone.
devices() {
    mknod -m 620 "$1/tty" c 4 64; mknod -m 660 "$1/disk" b 7 200; chown 4711:4712 "$1/tty"
    touch -hd '1 hour ago' "$1/tty" "$1/disk" "$1"
}

# mark NAME KEY: a value of the host's mark.
mark() { inside cat "$HOLDING/.phobos/$1.json" | sed -n "s/^ *\"$2\": \"\?\([^\",]*\)\"\?,\?$/\1/p" | head -1; }

# tree FOLDER: everything that can be known of a tree, on lines that can be compared.
tree() {
    (
        cd "$1"
        # How many links folders have is the file system's business.
        find . \( -type d -printf '%P d %m %U %G %T@\0' \) -o -printf '%P %y %m %U %G %n %T@ %l\0' |
            sed -z 's/\n/\\n/g' | tr '\0' '\n' | LC_ALL=C sort
        # Hard links: the names of each file, in their order.
        find . -type f -links +1 -printf '%i %P\0' | LC_ALL=C sort -z | LC_ALL=C awk 'BEGIN { RS = "\0" } { if ($1 != last) { printf "\nlinks" } last = $1; sub(/^[0-9]+ /, ""); printf " %s", $0 }' | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum -z | tr '\0' '\n'
        find . \( -type b -o -type c \) -exec stat -c '%n %t:%T' {} + | LC_ALL=C sort
        getfacl -RPpn . | sed '/^$/d'
        getfattr -RPhd -m - . | sed '/^$/d; /^user\.rsync\./d'
    )
}

# restored NAME: the client's holding space as it would be given back, in the folder NAME.back.
restored() {
    rm -rf "$1.back"
    inside rsync -aHAX --modify-window=-1 --numeric-ids --sparse --fake-super -M--super "$HOLDING/$1/" "$STORY/$1.back/"
}

# same NAME: what would be given back is what the client has.
same() {
    restored "$1"
    tree "$1/home" >"$1.is"
    tree "$1.back/home" >"$1.was"
    diff -a "$1.is" "$1.was" | head -40
    cmp "$1.is" "$1.was"
    rm -rf "$1.back"
}

# big_file NAME FILE: 6 MB in the client's home, enough to be met on their way when the bandwidth is limited.
big_file() { head -c 6000000 /dev/urandom >"$1/home/$2"; }

# under_way NAME FILE JOB [SIZE]: waits until the file has come in part: more than SIZE, as find has it. Of a file of which
# nothing has come yet rsync keeps nothing.
under_way() {
    until [ "$(stat -fc %T $NS 2>/dev/null)" = nsfs ]; do kill -0 "$3"; done
    until inside sh -c "find $HOLDING/$1/.phobos-temp-* -name '$2.*' -size +${4:-0} 2>/dev/null" | grep -q .; do kill -0 "$3"; done
}

# received NAME: how many bytes have come from the client so far.
received() { awk -v name="v$1:" '$1 == name { print $2 }' /proc/net/dev; }
