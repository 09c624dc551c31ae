# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

night() { expect "$1" "" ns exec --no-namespace --job night -- sh -c "exit $1" </dev/null; }
shown() { phobos-blink jobs --json | tr -d ' \n'; }
night 0; shown; shown >board; never grep night board
night 3; shown | grep '"name":"night","state":"failed","text":"shfailedwithexitcode3"'
expect 0 "" ns exec --no-namespace --job other -- true
shown | grep '"name":"night","state":"failed"'
night 0; shown; shown >board; never grep night board
# One that cannot even begin has failed, too.
cp "$CONFIG" good; echo 'nonsense' >>"$CONFIG"
expect 78 "key with no value" ns exec --no-namespace --job night -- true
shown | grep '"name":"night","state":"failed"'
cp good "$CONFIG"; night 0; shown; shown >board; never grep night board
