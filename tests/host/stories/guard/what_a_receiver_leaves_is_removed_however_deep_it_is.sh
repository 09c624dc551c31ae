# A receiver that was taken over leaves folders in folders where rsync makes its files: deeper than a program has descriptors.
#
# shellcheck source=../../guard.sh
. "$HOST/guard.sh"

spaces
client luv; mkdir -p client; echo photo >client/photo
host luv "luv:$STORY/client/"; friend luv
expect 0 "luv: copied" pull luv
cat >hole <<'END'
#!/usr/bin/perl
my ($partial) = map { /^--partial-dir=(.*)/ } @ARGV;
mkdir $partial;
for my $top ($partial, glob(".phobos-temp-*")) {
    chdir $top or die;
    for (1 .. 3000) { mkdir "d"; mkdir "wide$_"; open(my $file, ">", "file") or die; chdir "d" or die; }
    chdir ".." for (0 .. 3000);
}
exit 12;
END
chmod 755 hole client .
mount --bind hole /usr/bin/rsync
expect 1 "luv: cannot copy" pull luv
never grep "cannot remove" out
umount /usr/bin/rsync
# Both are gone with the next good pull, whatever limit there is.
(ulimit -n 64; expect 0 "luv: copied" pull luv)
never inside sh -c 'ls -d /backup/holding/luv/.phobos-*'
