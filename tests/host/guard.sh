# The shell of stories about clients: a user for pulls, and real ssh servers on loopback.
ip link set lo up
# The machine's own users and hosts, with one user more and the clients' names.
{ cat /etc/passwd; echo 'phobos-pull:x:990:990::/nonexistent:/usr/sbin/nologin'; } >passwd
{ cat /etc/group; echo 'phobos-pull:x:990:'; } >group
echo '127.0.0.1 localhost luv nuhc chew' >hosts
for file in passwd group hosts; do mount --bind $file /etc/$file; done
# Only root gets at the holding spaces by path, as on the real machine.
mkdir -p space/luv space/nuhc keys /run/sshd
chown phobos-pull: space/luv space/nuhc; chmod 700 space
export HOME=/root

# client NAME: an ssh server whose authorized_keys is the file NAME.keys, on the port in $NAME.
client() {
    local port=$((2200 + $(ls ./*.sshd 2>/dev/null | wc -l)))
    eval "$1=$port"
    ssh-keygen -q -t ed25519 -N '' -C '' -f "$1.hostkey"
    touch "$1.keys"
    printf 'Port %s\nHostKey %s\nAuthorizedKeysFile %s\nPidFile %s\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n' \
        "$port" "$STORY/$1.hostkey" "$STORY/$1.keys" "$STORY/$1.pid" >"$1.sshd"
    # It returns when it listens.
    /usr/sbin/sshd -f "$STORY/$1.sshd" -E "$STORY/$1.log"
}

# host NAME SOURCE [KEY=VALUE…]: a host in the configuration, with the client's port.
host() {
    local name=$1
    mkdir -p pull.d
    printf "source = ['%s']\nport = %s\n" "$2" "${!1}" >"pull.d/$name.toml"
    shift 2
    for line in "$@"; do echo "$line"; done >>"pull.d/$name.toml"
}

# friend NAME: our key may read everything there, and the host key is known.
friend() {
    pull authorize "$1" 2>/dev/null >"$1.keys"
    pull trust "$1" --fingerprint "$(ssh-keygen -lf "$1.hostkey.pub" | cut -d' ' -f2)"
}

pull() { phobos-pull --config "$CONFIG" "$@"; }

# confined PROGRAM…: as phobos-pull runs rsync for luv.
CONFINED=(phobos-pull confined --user phobos-pull --folder space/luv --read "$STORY/known_hosts" --connect 2200 --)
confined() { "${CONFINED[@]}" "$@"; }

# liar NAME LIE…: from now on, bytes of what the client sends are swapped; no lie, no swap.
liar() {
    local name=$1
    shift
    printf '#!/bin/sh\nexec "%s/a-client-that-lies" %s -- sh -c "$SSH_ORIGINAL_COMMAND"\n' "$STORY" "$*" >"$name.lie"
    chmod 755 "$name.lie"
    sed -i "s|^.* ssh-ed25519|command=\"$STORY/$name.lie\" ssh-ed25519|" "$name.keys"
}
