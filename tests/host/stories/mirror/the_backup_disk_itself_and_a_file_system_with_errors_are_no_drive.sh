# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; ns; printf '[led]\ndevice = "none"\n[[external.drive]]\nname = "own"\ndevice = "%s"\n' "$bdisk" >"$CONFIG"
expect 65 "is the disk of the backups itself" ext
inside ls -A /backup | never grep phobos
printf '[led]\ndevice = "none"\n' >"$CONFIG"; drive A
ext; debugfs -w -R "ssv state 2" "$A"
expect 65 "is marked as one with errors" ext; safe A
