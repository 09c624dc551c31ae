# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ext
mount "$A" disk.A; mkdir disk.A/wedding; echo photo >disk.A/wedding/1; umount disk.A
expect 0 "left alone on the drive, because phobos did not put it there: wedding" ext
mount "$A" disk.A; test -s disk.A/wedding/1; umount disk.A

# A backup of the same name is not mirrored over them, whatever the name; what a mirror has put there goes on, also after some
# without it, and whatever its name.
odd=$(printf 'n\nl \\ \377'); before=$(content A)
for name in wedding notes "$odd"; do
    inside sh -c 'mkdir /backup/"$1"; echo ours >/backup/"$1"/2' sh "$name"
    mount "$A" disk.A; mkdir -p disk.A/"$name"; echo theirs >disk.A/"$name"/1; umount disk.A; before=$(content A)
    expect 65 "is on the drive, where phobos did not put it, and now among the backups as well" ext; test "$(content A)" = "$before"; safe A
    mount "$A" disk.A; rm -r disk.A/"$name"; umount disk.A
    ext; mount "$A" disk.A; test -s disk.A/"$name"/2; umount disk.A
    inside sh -c 'echo more >/backup/"$1"/3' sh "$name"; ext
done
cp "$CONFIG" with; printf '[external]\nholding = false\n' | cat - with >"$CONFIG"; ext; cp with "$CONFIG"; ext
inside sh -c 'rm -r /backup/wedding /backup/notes /backup/"$1"' sh "$odd"
expect 65 "is gone or empty" ext; ext --accept "$(grep -o 'accept .*' out | cut -d' ' -f2)"
mount "$A" disk.A; test "$(find disk.A -maxdepth 1 -mindepth 1 | wc -l)" = 5; mkdir disk.A/wedding; echo photo >disk.A/wedding/1; rm -r disk.A/.phobos disk.A/HOW*; umount disk.A
before=$(content A)
expect 65 "such as wedding" ext; test "$(content A)" = "$before"; safe A
