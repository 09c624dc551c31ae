# A program may write a file twice within a second, as long as before, with a pull in between.
#
# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv; mkdir luv/home/jon
write() { echo "$1" >luv/home/jon/note; touch -d "2026-01-01 00:00:00.$2" luv/home/jon/note; }
write one 1; expect 0 "luv: copied 1 files with 4 B" pull luv
write two 9; expect 0 "luv: copied 1 files with 4 B" pull luv; same luv
expect 0 "luv: copied 0 files" pull luv
