# A repository of twenty thousand segments, and drives with a hundred thousand names where none belong: what phobos-ext and the
# holder of Borg's lock need at most is asked of the kernel when rsync and the last umount are started. Of phobos-ext that is without
# the pages of the program itself, 11 MB of a debug build and 3 of the one that is installed, which `bench mirror` measures whole.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

EXT4='-N 150000'; disk bdisk 400; EXT4='-N 250000'; drive A 300; EXT4=
echo "$bdisk /backup ext4 noauto,noatime 0 0" >>fstab
mount "$bdisk" disk.bdisk; borg init -e none disk.bdisk/borg; mkdir -p disk.bdisk/holding/luv; echo x >disk.bdisk/holding/luv/photo
cat >many.py <<'END'
# Twenty thousand segments of one object each, and the hints and the index that name them.
import os, struct, sys, zlib
os.chdir(sys.argv[1])
LAST = 20000
def entry(tag, rest):
    body = struct.pack("<IB", 9 + len(rest), tag) + rest
    return struct.pack("<I", zlib.crc32(body)) + body
for name in os.listdir("."):
    if name.split(".")[0] in ("hints", "index", "integrity"):
        os.remove(name)
keys = [n.to_bytes(32, "big") for n in range(LAST)]
for n in range(LAST + 1):
    os.makedirs(f"data/{n // 1000}", exist_ok=True)
    with open(f"data/{n // 1000}/{n}", "wb") as file:
        file.write(b"BORG_SEG" + (entry(0, keys[n] + b"some data") if n < LAST else b"") + (entry(2, b"") if n == LAST else b""))
hints = b"\x82\xa7version\x02\xa8segments\xdf" + struct.pack(">I", LAST)
hints += b"".join(b"\xce" + struct.pack(">I", n) + b"\x01" for n in range(LAST))
open(f"hints.{LAST}", "wb").write(hints)
index = b"BORG_IDX" + struct.pack("<iibb", LAST, 2 * LAST, 32, 8)
index += b"".join(keys[n] + struct.pack("<II", n, 8) for n in range(LAST)) + LAST * (bytes(32) + struct.pack("<II", 0xffffffff, 0))
open(f"index.{LAST}", "wb").write(index)
END
python3 many.py disk.bdisk/borg; umount disk.bdisk; ns

for program in rsync umount; do
    real=$(command -v $program); cp "$real" "real-$program"
    cat >"fake-$program" <<END
#!/bin/sh
# What Python needs for a moment when it starts says nothing about what the holder takes all the time.
for pid in \$PPID \$(pgrep -P \$PPID borg); do
    name=\$(cat /proc/\$pid/comm)
    awk -v name="\$name" '/^(VmRSS|VmHWM|RssFile):/ { is[\$1] = \$2 } END {
        print name, name == "borg" ? is["VmRSS:"] : is["VmHWM:"] - is["RssFile:"] }' /proc/\$pid/status >>"$STORY/peaks"
done
exec "$STORY/real-$program" "\$@"
END
    chmod 755 "fake-$program"; mount --bind "fake-$program" "$real"
done
small() {
    cat peaks; grep -q phobos-ext peaks
    awk '$1 ~ /phobos-ext/ && $2 > 20480 || $1 ~ /borg/ && $2 > 35840 { print "too much: " $0; bad = 1 } END { exit bad }' peaks
    rm peaks
}
expect 0 "copied 2000" ext; grep borg peaks; small
expect 0 "copied 0 files" ext; small

# names FOLDER: a hundred thousand of them on the drive, long ones.
names() { mount "$A" disk.A; (mkdir -p "disk.A/$1"; cd "disk.A/$1"; seq -f "$(printf 'n%.0s' $(seq 40))%.0f" 100000 | xargs touch); umount disk.A; }
gone() { mount "$A" disk.A; find "disk.A/$1" -name 'nnn*' -delete; umount disk.A; }
for folder in . borg/data/0; do
    names $folder; SECONDS=0; expect 65 "has more than" ext; test $SECONDS -lt 20; small; gone $folder
done
