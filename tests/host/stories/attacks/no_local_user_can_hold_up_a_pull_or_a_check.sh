# The same for pulls: uid nobody locks whatever it can open, files and folders, while hosts are pulled and checked.
#
# shellcheck source=../../guard.sh
. "$HOST/guard.sh"

spaces
client luv; mkdir -p client; echo photo >client/photo
host luv "luv:$STORY/client/"; friend luv
expect 0 "luv: copied" pull luv
expect 0 "luv: writing is refused" pull check luv
chmod 755 "$STORY" client /var/lib/phobos /run
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
never grep -x "holds 0" held
expect 0 "luv: copied" pull --lock-wait 5s luv
expect 0 "luv: writing is refused" pull check luv
expect 0 "luv   ok " pull list
exec 5>&-
