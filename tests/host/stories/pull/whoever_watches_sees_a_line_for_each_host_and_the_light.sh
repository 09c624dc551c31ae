# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv "bandwidth-limit = '2MiB'"; client nuhc "bandwidth-limit = '2MiB'"
big_file luv photo; big_file nuhc photo
# Nobody watches: the light is left alone.
expect 0 "" pull luv; phobos-blink jobs >out; never grep pull-luv out
big_file luv photo
script --quiet --return --command "$STORY/phobos-pull --config $CONFIG luv nuhc" typescript >/dev/null </dev/null
tr '\r' '\n' <typescript >seen; sed 's/\x1b/^/g' seen
grep -q 'luv   \[#* *\] copied [0-9.]* [kM]*B, ' seen; grep -q 'nuhc  \[#* *\] copied [0-9.]* [kM]*B, ' seen
# Both lines stand below each other and are drawn anew in their place.
grep -qF "$(printf '\033[2A')" seen
phobos-blink jobs | grep 'pull-luv.*ok'
# A failure without anybody there: red, and off again with the next good one.
: >nuhc.keys; expect 1 "" pull nuhc; phobos-blink jobs | grep 'pull-nuhc.*failed'
let_in nuhc "$RRSYNC"; expect 0 "" pull nuhc; phobos-blink jobs >out; never grep pull-nuhc out
