# Whoever can open a file can lock it; the locks, the history and the board are tried all at once, as uid nobody.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A
chmod 755 "$STORY" /var/lib/phobos /run
expect 0 "" ext -- first
hold='use Fcntl qw(:flock O_RDONLY O_NONBLOCK); use File::Find; my @held;
    find({ no_chdir => 1, wanted => sub {
        sysopen(my $file, $_, O_RDONLY | O_NONBLOCK) or return;
        push @held, $file if flock($file, LOCK_EX | LOCK_NB);
    } }, @ARGV);
    $| = 1; print "holds ", scalar(@held), "\n"; <STDIN>;'
mkfifo hands
setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/perl -e "$hold" /run/phobos /var/lib/phobos <hands >held &
exec 5>hands
until grep holds held; do kill -0 $!; sleep 0.05; done
# What others may read they may lock, and nobody waits for that.
never grep -x "holds 0" held
began=$SECONDS
expect 0 "" ext --lock-wait 5s -- again
inside mv /backup/borg /backup/gone
expect 65 "" ext --lock-wait 5s -- gone
phobos-blink jobs --json | tr -d ' \n' | grep '"name":"ext-A","state":"failed"'
inside mv /backup/gone /backup/borg
expect 0 "" ns exec --job night --lock repository --lock-wait 5s -- true
expect 0 "" ext close
test $((SECONDS - began)) -lt 100
exec 5>&-
find /run/phobos /var/lib/phobos -name '*.lock' -o -name '*.turn' | while read -r lock; do
    test "$(stat -c %a "$lock")" = 600
done
test "$(stat -c %a /run/phobos/lock/private)" = 700
