# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; mkdir real; ln -s "$STORY/real" place; sed -i "1i [external]\nmount = \"$STORY/place\"\n" "$CONFIG"
expect 0 finished ext; safe A; sound A
expect 0 finished ext; safe A
