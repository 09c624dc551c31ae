# shellcheck source=../../pull.sh
. "$HOST/pull.sh"

client luv; echo x >luv/home/x; mkdir luv/home/ann; echo y >luv/home/ann/y
# What versions of rrsync have in common is that paths relative to their folder work; each refuses something else.
cat >picky <<-'END'
		#!/bin/bash
		read -ra words <<<"$SSH_ORIGINAL_COMMAND"
		for index in "${!words[@]}"; do
		    if [ "${words[index]}" = . ]; then paths=("${words[@]:index+1}"); options=("${words[@]:0:index}"); break; fi
		done
		for path in "${paths[@]}"; do
		    case $path in /*|'') echo "rrsync error: unsafe arg: $path" >&2; exit 1 ;; esac
		done
		cd /home && exec "${options[@]}" . "${paths[@]}"
		END
chmod 755 picky .
for rrsync in "rrsync -ro /home" "$STORY/picky"; do
    let_in luv "restrict,command=\"$rrsync\""
    configure luv "source = ['root@luv:/home/']" "root = '/home'"
    expect 0 "luv: copied" pull luv; same luv
    configure luv "source = ['root@luv:/home/ann/', 'root@luv:/home/x']" "root = '/home'"
    expect 0 "luv: copied" pull luv; same luv
    inside rm -r $HOLDING/luv/home
done
# The whole machine, which no path is relative to.
others=$(find / -mindepth 1 -maxdepth 1 ! -name home -printf "'%p'\n" | paste -sd,)
for key in 'restrict,command="rrsync -ro /"' restrict; do
    let_in luv "$key"
    configure luv "source = ['root@luv:/']" "exclude = [$others]"
    expect 0 "luv: copied" pull luv; same luv
    inside rm -r $HOLDING/luv/home
done
