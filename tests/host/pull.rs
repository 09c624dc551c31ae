//! Stories of pulls: real ssh servers in networks of their own, and every way in which a client can fail.

use crate::miniature;

/// Tells a story with clients.
pub(crate) fn tell(story: &str) {
    miniature::tell(&format!("{}\n{story}", include_str!("pull.sh")));
}

#[test]
fn three_hosts_are_pulled_side_by_side_and_can_be_given_back() {
    tell(
        r#"
        client luv; client nuhc; client chew
        # Hard links, within a folder and across; ACLs, attributes, a hole, owners that this machine has not.
        home=luv/home; mkdir -p $home/jon/d
        echo one >$home/jon/one; ln $home/jon/one $home/jon/d/uno; ln $home/jon/one $home/jon/eins
        setfacl -m u:4711:rwx,g:4712:r $home/jon/one; setfacl -d -m u:4711:rx $home/jon/d
        setfattr -n user.colour -v blue $home/jon/d; setfattr -n user.bytes -v 0x00ff0a $home/jon/one
        setfattr -n trusted.secret -v mine $home/jon/one; setcap cap_net_raw+ep $home/jon/d/uno 2>/dev/null || true
        truncate -s 32M $home/sparse; echo end >>$home/sparse
        chown -R 4711:4712 $home/jon; chmod 4751 $home/jon/eins; chmod 1777 $home/jon/d
        ln -s /etc/passwd $home/absolute; ln -s ../../../../etc $home/climbing; ln -s nothing $home/dangling
        touch -h -d '1999-12-31 23:59:59.123456789' $home/dangling; touch -d '2001-02-03' $home/jon/d
        mkfifo $home/pipe; mkdir $home/closed; echo x >$home/closed/x; chmod 000 $home/closed/x $home/closed
        # Names that are no text, look like options, or mean something to a shell.
        home=nuhc/home
        touch $home/$'new\nline' $home/$'\xff\xfe' $home/-rf $home/'$(reboot)' $home/"it's" $home/'a*b?[c]' $home/' '
        touch $home/$'\e[2J' $home/'back\slash' $home/'*deleting   x' $home/$'tab\t' $home/"$(printf 'n%.0s' {1..255})"
        deep=$home; for i in $(seq 60); do deep=$deep/deep; done; mkdir -p $deep; echo deep >$deep/er
        # Folders within folders.
        mkdir -p chew/home/{1..20}/{1..5}; for folder in chew/home/*/*; do echo $folder >$folder/file; done
        # What is called like phobos's own folders is theirs all the same.
        for folder in .phobos-partial .phobos-partial-0123456789abcdef .phobos-temp .phobos; do
            mkdir -p chew/home/$folder chew/home/1/$folder; echo $folder | tee chew/home/$folder/f >chew/home/1/$folder/f
        done
        # rsync gives a link or pipe the fraction of its second only where the second is another one than now.
        find luv/home nuhc/home chew/home -newermt '1 hour ago' -exec touch -hd '1 hour ago' {} +
        expect 0 "chew: copied 108 files with " pull --all --jobs 3
        same nuhc; same chew
        test "$(inside stat -c %b $HOLDING/luv/home/sparse)" -lt 100
        # Each host's files belong to a user of its own, and nobody gets at another's.
        test "$(inside stat -c %a $HOLDING)" = 711
        for name in luv nuhc chew; do
            test "$(inside stat -c %a $HOLDING/$name)" = 700
            test -z "$(inside find $HOLDING/$name ! -uid "$(owner $name)" -o ! -gid "$(owner $name)")"
        done
        test "$(printf '%s\n' "$(owner luv)" "$(owner nuhc)" "$(owner chew)" | sort | tr '\n' ' ')" = "70000 70001 70002 "

        # A second pull moves nothing.
        pull --all --json >outcomes
        test "$(grep -c '"files_copied": 0' outcomes)" = 3
        test "$(grep -c '"bytes_copied": 0' outcomes)" = 3
        test "$(grep -c '"deleted": 0' outcomes)" = 3
        # Where a folder has attributes too, rsync drops its default ACL when it makes it, and adds it the next time.
        for name in luv nuhc chew; do same $name; test "$(mark $name state)" = ok; done
        grep -c '"job":"pull","object":"luv".*"exit":0,"bytes":' /var/lib/phobos/history.jsonl | grep -x 2
        expect 0 "chew  ok" pull list
        grep -E 'chew +ok +20[0-9-]+ [0-9:]+ +0 minutes +[0-9.]+ k?B +[0-9]+s +-' out
        "#,
    );
}

/// On a fresh install nothing is pulled, and nothing is made: the timer of all hosts has no reason to fail.
#[test]
fn without_a_host_or_a_disk_nothing_is_done_and_one_line_says_so() {
    tell(
        r#"
        # Written in place: /etc/fstab is this very file.
        cp fstab with_disk; never grep -v ' /backup ' with_disk >fstab
        none="no host is configured, nothing to pull; one is a [[pull]] table in phobos.toml or a file $STORY/pull.d/NAME.toml"
        expect 0 "$none" pull --all; test "$(wc -l <out)" = 1
        expect 0 "$none" pull list; test "$(wc -l <out)" = 1
        test "$(pull --all --json 2>/dev/null)" = "[]"; test "$(pull list --json 2>/dev/null)" = "[]"
        never test -e $NS
        # With a host, what is missing is said, with what to do.
        configure luv "source = ['root@luv:/home/']"
        expect 78 "no entry for /backup in " pull list; grep "add one with the option noauto" out; test "$(wc -l <out)" = 1
        expect 78 "no entry for /backup in " pull --all
        # A host that was never pulled, on a disk that is there, is new.
        cat with_disk >fstab
        expect 0 "luv   new " pull list
        "#,
    );
}

#[test]
fn a_client_that_is_cut_off_is_offline_and_the_rest_is_copied_next_time() {
    tell(
        r#"
        client luv "bandwidth-limit = '600KiB'" "ssh-options = ['ServerAliveInterval=1', 'ServerAliveCountMax=1']"
        echo old >luv/home/kept; echo old >luv/home/other
        expect 0 "luv: copied 2 files" pull luv
        big_file luv photo; rm luv/home/kept
        phobos-pull --config "$CONFIG" luv >said.pull 2>&1 & job=$!
        under_way luv photo $job
        until inside find $HOLDING/luv -path '*/.phobos-temp-*' -name 'photo.*' -size +2500k | grep .; do kill -0 $job; done
        ip -n luv link set eth0 down
        code=0; wait $job || code=$?
        cat said.pull
        test $code = 66; grep "error: luv: cannot copy from root@luv:/home/: it is not there: " said.pull
        test "$(mark luv state)" = offline
        inside test -f $HOLDING/luv/home/kept
        inside test ! -e $HOLDING/luv/home/photo
        inside find $HOLDING/luv/home -path '*/.phobos-partial-*/photo' -size +2000k | grep .
        ip -n luv link set eth0 up
        # What has come is not sent again.
        sed -i /bandwidth/d pull.d/luv.toml
        before=$(received luv)
        expect 0 "luv: copied 1 files with 6 MB, deleted 1" pull luv
        test $(($(received luv) - before)) -lt 4500000
        same luv
        never inside sh -c "find $HOLDING/luv | grep -F .phobos-"
        # Where what was cut off is given back to the host with the rest, it is pulled with the rest.
        big_file luv film; echo "bandwidth-limit = '600KiB'" >>pull.d/luv.toml
        phobos-pull --config "$CONFIG" luv & job=$!
        under_way luv film $job; kill -TERM $job; wait $job || true
        part=$(inside sh -c "cd $HOLDING/luv/home; ls -d .phobos-partial-*")
        mkdir "luv/home/$part"; echo part >"luv/home/$part/film"; sed -i /bandwidth/d pull.d/luv.toml
        expect 0 "" pull luv; expect 0 "" pull luv; same luv
        inside grep -x part "$HOLDING/luv/home/$part/film"
        "#,
    );
}

#[test]
fn whoever_is_not_there_is_offline_and_a_laptop_may_be_for_a_while() {
    tell(
        r#"
        client luv; client laptop "optional = true"
        echo x >luv/home/x; cp luv/home/x laptop/home/
        expect 0 "" pull --all
        kill "$(cat luv.pid)" "$(cat laptop.pid)"
        expect 66 "it is not there: ssh: connect to host luv port 22: Connection refused" pull luv
        sed '/ luv$/d; / laptop$/d' hosts >hosts.new; cat hosts.new >hosts
        expect 66 "it is not there: ssh: Could not resolve hostname luv" pull luv
        test "$(mark luv state)" = offline; inside test -f $HOLDING/luv/home/x
        phobos-blink jobs | grep 'pull-luv.*failed'
        grep '"object":"luv".*"exit":66' /var/lib/phobos/history.jsonl

        expect 0 "that is no failure before its time" pull laptop
        grep -q "^info: laptop: " out; never grep -q "^error" out
        expect 66 "luv: cannot copy" pull --all
        grep '"object":"laptop".*"exit":66' /var/lib/phobos/history.jsonl
        expect 0 "laptop  offline" pull list
        # The last good pull was longer ago than it may be.
        echo "stale-after = '1h'" >>pull.d/laptop.toml
        inside sed -i 's/"start": "20[0-9][0-9]/"start": "2020/' $HOLDING/.phobos/laptop.json
        expect 66 "laptop: its copy is " pull laptop
        grep "days, older than 1h: cannot copy from root@laptop:/home/" out
        "#,
    );
}

#[test]
fn a_changed_host_key_and_a_key_that_is_not_let_in_are_told() {
    tell(
        r#"
        client luv; echo x >luv/home/x
        expect 0 "" pull luv
        rm luv.hostkey; ssh-keygen -q -t ed25519 -N '' -f luv.hostkey
        restart luv
        expect 65 "its host key is not the one that is known" pull luv
        test "$(mark luv state)" = refused; inside test -f $HOLDING/luv/home/x
        echo "luv $(cut -d' ' -f1,2 luv.hostkey.pub)" >known_hosts
        : >luv.keys
        expect 1 "it does not let phobos-pull in: root@luv: Permission denied (publickey" pull luv
        test "$(mark luv state)" = failed
        rm keys/pull
        expect 78 "there is no key $STORY/keys/pull; run \`phobos-pull authorize luv\`" pull luv
        ssh-keygen -q -t ed25519 -N '' -f keys/pull
        : >known_hosts
        expect 65 "its host key is not known; run \`phobos-pull trust luv\`" pull luv
        rm known_hosts
        expect 65 "its host key is not known; run \`phobos-pull trust luv\`" pull luv
        "#,
    );
}

/// What goes wrong at a host that is there is told as such, and never as an absence that an optional host may have.
#[test]
fn a_host_that_is_there_is_never_told_to_be_away() {
    tell(
        r#"
        client luv; echo x >luv/home/x
        sources="source = ['root@luv:/home/']"
        configure luv "$sources" 'optional = true'
        expect 0 "" pull luv
        cp luv.sshd usual
        # A banner longer than anything that is kept, before the key is refused.
        for i in $(seq 300); do echo "** Authorized use only, line $i **"; done >banner
        echo "Banner $STORY/banner" >>luv.sshd; restart luv; cp luv.keys keys.usual; : >luv.keys
        for time in 1 2 3; do
            expect 1 "it does not let phobos-pull in: root@luv: Permission denied (publickey" pull luv
            test "$(mark luv state)" = failed
        done
        cp keys.usual luv.keys; expect 0 "" pull luv
        # A server that knows only what ssh here has given up.
        ssh-keygen -q -t rsa -N '' -f luv.rsa
        sed "s|^HostKey .*|HostKey $STORY/luv.rsa|" usual >luv.sshd; echo 'HostKeyAlgorithms ssh-rsa' >>luv.sshd; restart luv
        for time in $(seq 10); do
            expect 1 "it knows only ways that ssh here no longer takes: Unable to negotiate with" pull luv
        done
        cp usual luv.sshd; restart luv
        # Options that are none, and a port that this machine's own walls close.
        configure luv "$sources" 'optional = true' "ssh-options = ['ConectTimeout=5']"
        expect 78 "ssh does not take its options: command-line: line 0: Bad configuration option: conecttimeout" pull luv
        configure luv "$sources" 'optional = true' "ssh-options = ['Port=2222']"
        expect 78 "ssh is not let out to that port: ssh: connect to host luv port 2222: Permission denied" pull luv
        configure luv "$sources" 'optional = true'
        # What the key starts there is missing, refuses, or is another program.
        while IFS='|' read -r command code said; do
            let_in luv "restrict,command=\"$command\""
            expect "$code" "$said" pull luv
            test "$(mark luv state)" = failed
        done <<-'END'
		no-such-rrsync -ro /|1|it has no rsync or rrsync where the key looks for it:
		false|1|the connection was closed without a word; is rsync there
		/usr/sbin/nologin|1|or its shell is nologin
		sh -c 'echo rsync: unrecognized option -- A >&2; exit 1'|1|its rsync is another one, or too old: rsync: unrecognized option -- A
		sh -c 'echo rrsync: not yours >&2; exit 255'|1|what restricts the key refuses the call: rrsync: not yours
		echo welcome to luv; exec rrsync -ro /|1|it says something before rsync does
		END
        let_in luv "$RRSYNC"; expect 0 "" pull luv; same luv
        # Perl's rrsync ends with ssh's own code where it refuses: that is no failed login.
        let_in luv "restrict,command=\"sh -c 'case \$SSH_ORIGINAL_COMMAND in rsync*--sender*) exec rrsync -ro /;; esac; echo not rsync >&2; exit 255'\""
        expect 0 "luv: any other command is refused" pull check luv
        grep -x 'luv: writing is refused' out
        # And it may still be away.
        kill "$(cat luv.pid)"
        expect 0 "it is not there: ssh: connect to host luv port 22: Connection refused; that is no failure" pull luv
        "#,
    );
}

#[test]
fn a_key_restricted_with_any_rrsync_reads_its_folder() {
    tell(
        r#"
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
        others=$(ls -A / | grep -vx home | sed "s|.*|'/&'|" | paste -sd,)
        for key in 'restrict,command="rrsync -ro /"' restrict; do
            let_in luv "$key"
            configure luv "source = ['root@luv:/']" "exclude = [$others]"
            expect 0 "luv: copied" pull luv; same luv
            inside rm -r $HOLDING/luv/home
        done
        "#,
    );
}

#[test]
fn a_host_behind_another_is_reached_through_it_with_the_same_key() {
    tell(
        r#"
        client gate; client luv; echo hi >luv/home/f
        # From here to luv there is a way through gate only; gate's ssh has a port of its own.
        ip -n gate link add tol type veth peer name eth1 netns luv
        ip -n gate addr add 10.77.0.1/24 dev tol; ip -n gate link set tol up
        ip -n luv addr add 10.77.0.2/24 dev eth1; ip -n luv link set eth1 up
        sed '/ luv$/d' hosts >hosts.new; echo '10.77.0.2 luv' >>hosts.new; cat hosts.new >hosts
        sed -i 's/^Port 22$/Port 2022/' gate.sshd; kill "$(cat gate.pid)"; server gate
        let_in gate 'restrict,port-forwarding,permitopen="luv:22"'
        configure luv "source = ['root@luv:/home/']" "jump = 'root@gate:2022'"
        : >known_hosts
        expect 65 "its host key is not known; run \`phobos-pull trust luv\`" pull luv
        print() { ssh-keygen -lf "$1.hostkey.pub" | cut -d' ' -f2; }
        expect 65 "[gate]:2022 shows none of the keys that you trust" pull trust luv --fingerprint "$(print luv)"
        expect 0 "trusted from now on for luv: $(print luv)" \
            pull trust luv --fingerprint "$(print gate)" --fingerprint "$(print luv)"
        expect 0 "is known" pull trust luv
        expect 0 "luv: copied 1 files" pull luv; same luv
        expect 0 "luv: forwarding is refused" pull check luv
        # Who is away, who refuses, and who answers in another's place is told for each of the two.
        kill "$(cat luv.pid)"; until ! ip netns exec luv ss -Hltn 'sport = 22' | grep -q .; do :; done
        expect 66 "it is not there: channel 0: open failed: connect failed: Connection refused" pull luv
        server luv
        let_in gate 'restrict,port-forwarding,permitopen="luv:23"'
        expect 1 "the host in between does not let phobos-pull through: " pull luv
        : >gate.keys
        expect 1 "it does not let phobos-pull in: root@gate: Permission denied" pull luv
        kill "$(cat gate.pid)"; until ! ip netns exec gate ss -Hltn 'sport = 2022' | grep -q .; do :; done
        expect 66 "it is not there: ssh: connect to host gate port 2022: Connection refused" pull luv
        configure luv "source = ['root@luv:/home/']" "ssh-options = ['ProxyJump=root@gate']"
        expect 78 'name the host in between with jump = "root@gate"' pull luv
        "#,
    );
}

#[test]
fn an_authority_vouches_for_its_hosts() {
    tell(
        r#"
        client luv; echo x >luv/home/x
        ssh-keygen -q -t ed25519 -N '' -f authority
        ssh-keygen -q -s authority -I luv -h -n luv luv.hostkey.pub
        echo "HostCertificate $STORY/luv.hostkey-cert.pub" >>luv.sshd; restart luv
        echo "@cert-authority * $(cut -d' ' -f1,2 authority.pub)" >known_hosts
        expect 0 "luv: copied 1 files" pull luv
        expect 0 "luv: the host key is known" pull check luv
        expect 0 "luv is known by an authority" pull trust luv
        "#,
    );
}

#[test]
fn an_empty_source_and_a_mass_of_deletions_delete_nothing() {
    tell(
        r#"
        client luv; mkdir luv/home/{jon,ann}; for i in $(seq 200); do echo $i >luv/home/jon/$i; done
        configure luv "source = ['root@luv:/home/jon', 'root@luv:/home/ann/']"
        echo a >luv/home/ann/a; echo b >luv/home/ann/b
        expect 0 "luv: copied 202 files" pull luv
        # A few deletions, folders among them, are made without a question.
        rm luv/home/jon/{1..9}; mkdir -p luv/home/jon/d/e
        expect 0 "luv: copied 0 files with 0 B, deleted 9" pull luv
        rm -r luv/home/jon/d
        expect 0 "luv: copied 0 files with 0 B, deleted 2" pull luv
        # Where a folder becomes a file, something has to go before the file can come.
        mkdir luv/home/jon/both; touch luv/home/jon/both/x; expect 0 "" pull luv
        rm -r luv/home/jon/both; echo f >luv/home/jon/both; expect 0 "" pull luv; same luv

        # Ann's disk is not mounted, and Jon's is full: what Ann has is few, but all she has.
        mv luv/home/ann luv/ann; mkdir luv/home/ann; echo new >luv/home/jon/new
        expect 65 "everything new was copied, nothing was deleted: all 2 files in /home/ann (home/ann/" pull luv
        grep 'if that is right, run `phobos-pull --allow-delete luv` once' out
        test "$(mark luv state)" = refused; inside test -f $HOLDING/luv/home/jon/new; inside test -f $HOLDING/luv/home/ann/a
        expect 65 "all 2 files in /home/ann" pull luv
        expect 0 "luv   refused" pull list
        rmdir luv/home/ann; mv luv/ann luv/home/ann; expect 0 "" pull luv; same luv

        # All files get other names, as a blackmailer does it: refused, and refused again.
        for file in luv/home/jon/[0-9]*; do mv $file $file.locked; done
        for time in 1 2; do
            expect 65 "nothing was deleted: 191 of 193 files in /home/jon (" pull luv
            test "$(inside sh -c "ls $HOLDING/luv/home/jon | wc -l")" = 384
        done
        # To ask what would happen changes nothing.
        expect 0 "luv: *deleting   home/jon/" pull --dry-run luv
        grep "would delete nothing: 191 of " out
        test "$(inside sh -c "ls $HOLDING/luv/home/jon | wc -l")" = 384
        expect 0 "deleted 191" pull --allow-delete luv
        same luv
        # A limit of one's own.
        echo 'max-delete = 3' >>pull.d/luv.toml; rm luv/home/jon/1[0-9].locked
        expect 65 "10 of 193 files in /home/jon" pull luv
        sed -i 's/max-delete = 3/max-delete = "6%"/' pull.d/luv.toml; expect 0 "deleted 10" pull luv; same luv
        echo 'delete = false' >>pull.d/luv.toml; rm luv/home/jon/new; expect 0 "deleted 0" pull luv
        inside test -f $HOLDING/luv/home/jon/new
        "#,
    );
}

#[test]
fn files_that_vanish_are_noted_and_files_that_cannot_be_read_are_named() {
    tell(
        r#"
        client luv "bandwidth-limit = '1MiB'"
        big_file luv a-photo; echo x >luv/home/z-gone; echo y >luv/home/z-stays
        # rsync compares whole seconds: what changes later must have another one.
        touch -d '1 hour ago' luv/home/z-stays
        phobos-pull --config "$CONFIG" luv >said.pull 2>&1 & job=$!
        under_way luv a-photo $job; rm luv/home/z-gone; echo more >>luv/home/z-stays
        wait $job; cat said.pull
        grep 'some files vanished while they were read: file has vanished: "/home/z-gone"' said.pull
        test "$(mark luv state)" = ok; inside grep '"note": .*z-gone' $HOLDING/.phobos/luv.json
        expect 0 "" pull luv; same luv

        client nuhc; echo secret >nuhc/home/secret; echo fine >nuhc/home/fine
        expect 0 "" pull nuhc
        # A bad block: reading the file is an error, for root too.
        ON_MOUNT="mount --bind /proc/self/mem /home/secret" restart nuhc
        rm nuhc/home/fine
        expect 1 'some files could not be copied: rsync: [sender]' pull nuhc
        grep '/home/secret' out
        # What cannot be read whole deletes nothing.
        inside test -f $HOLDING/nuhc/home/fine; test "$(mark nuhc state)" = failed
        echo 'success = [23, 24]' >>pull.d/nuhc.toml
        expect 0 "some files could not be copied" pull nuhc
        inside test -f $HOLDING/nuhc/home/fine
        # But a source that has another name now is not copied at all.
        configure nuhc "source = ['root@nuhc:/home/', 'root@nuhc:/gone/']" 'success = [23, 24]'
        expect 1 "a source is not there: rsync: [sender] " pull nuhc
        test "$(mark nuhc state)" = failed
        "#,
    );
}

#[test]
fn a_full_disk_and_a_client_that_hangs_fail_and_leave_the_copy_as_it_was() {
    tell(
        r#"
        client luv; head -c 3000000 /dev/urandom >luv/home/photo; cp luv/home/photo was
        printf '[backup]\nreserve = "0%%"\n' >>"$CONFIG"
        expect 0 "" pull luv
        head -c 20000000 /dev/urandom >luv/home/photo
        inside sh -c 'fallocate -l $(($(stat -f -c "%a * %S" /backup) - 8000000)) /backup/full'
        expect 1 "No space left on device" pull luv
        test "$(mark luv state)" = failed
        inside cmp $HOLDING/luv/home/photo "$STORY/was"
        inside rm /backup/full
        expect 0 "" pull luv; same luv
        never inside sh -c "find $HOLDING -name '.phobos-*' | grep ."

        # It lets us in and then says nothing.
        let_in luv 'restrict,command="sleep 1000"'
        echo "time-limit = '2s'" >>pull.d/luv.toml
        expect 1 "luv: cannot copy from root@luv:/home/: it took longer than 2s" pull luv
        test "$(mark luv state)" = failed; same luv
        "#,
    );
}

#[test]
fn a_host_that_sends_without_end_fills_the_disk_for_nobody() {
    tell(
        r#"
        client luv "bandwidth-limit = '20MiB'"; client nuhc
        echo old >luv/home/kept; echo x >nuhc/home/x
        printf '[backup]\nreserve = "100MiB"\n' >>"$CONFIG"
        expect 0 "" pull --all
        free() { inside stat -f -c '%a * %S / 1048576' /backup | xargs -I {} sh -c 'echo $(({}))'; }
        # Room for 20 MB more than a pull may take that brings much; what it has brought in full stays.
        inside fallocate -l "$(($(free) - 170))M" /backup/others
        for number in $(seq 9); do head -c 9000000 /dev/urandom >luv/home/film-$number; done
        expect 1 "luv: cannot copy from root@luv:/home/: no room for luv in $HOLDING: " pull luv
        grep -E "[0-9.]+ MB free, and a pull that brings much leaves 157\.29 MB: the reserve of 104\.86 MB and room for the other hosts" out
        grep -F "; make room there, leave something out with \`exclude\`, or set another \`reserve\` in [backup]" out
        test "$(free)" -gt 110
        test "$(mark luv state)" = failed; phobos-blink jobs | grep 'pull-luv.*failed.*no room for luv'
        grep '"object":"luv".*"exit":1,.*no room for luv' /var/lib/phobos/history.jsonl
        inside test -f $HOLDING/luv/home/kept; inside ls $HOLDING/luv/home | grep film
        never inside sh -c "find $HOLDING -name '.phobos-*' ! -path $HOLDING/.phobos | grep -F .phobos-"
        # Whoever brings little still can.
        echo y >nuhc/home/y; expect 0 "nuhc: copied 1 files" pull nuhc; same nuhc
        # One large file is cut off and gives its room back.
        rm luv/home/film-*; expect 0 "" pull --allow-delete luv
        head -c 70000000 /dev/urandom >luv/home/film
        expect 1 "no room for luv" pull luv
        test "$(free)" -gt 160
        rm luv/home/film; expect 0 "" pull --all; same luv; same nuhc
        # Below the reserve nothing begins, not even for this machine's own folders, and nothing is made.
        mkdir own; head -c 9000 /dev/urandom >own/0; configure own "source = ['$STORY/own']" "bandwidth-limit = '1MiB'"
        inside fallocate -o "$(inside stat -c %s /backup/others)" -l "$(($(free) - 95))M" /backup/others
        for name in own luv; do
            expect 1 "$name: no room for $name in $HOLDING: " pull $name; grep 'free, less than the reserve of 104.86 MB' out
        done
        inside test ! -e $HOLDING/own; same luv
        expect 0 "" pull --dry-run luv
        inside rm /backup/others; expect 0 "" pull --all
        # Inodes can be used up too, by files that need no room.
        inside mount -t tmpfs -o mode=711,size=2G,nr_inodes=600 tmpfs $HOLDING
        sed -i 's/100MiB/20%/' "$CONFIG"
        for number in $(seq 1000); do cp own/0 own/$number; done
        expect 1 "own: cannot copy from $STORY/own: no room for own in $HOLDING: " pull own
        grep -E '[0-9]+ inodes free, and a pull that brings much leaves 1[78][0-9] inodes: the reserve of 1[12][0-9] inodes' out
        test "$(inside stat -f -c %d $HOLDING)" -gt 20
        "#,
    );
}

#[test]
fn a_killed_pull_leaves_a_mark_and_the_next_one_goes_on() {
    tell(
        r#"
        client luv "bandwidth-limit = '300KiB'"; client nuhc "bandwidth-limit = '300KiB'"
        big_file luv photo; big_file nuhc photo
        phobos-pull --config "$CONFIG" luv nuhc & job=$!
        under_way luv photo $job; under_way nuhc photo $job
        expect 0 "luv   running" pull list
        kill -KILL $job; wait $job || true
        expect 0 "luv   interrupted" pull list
        test "$(mark luv state)" = running
        # A half of rsync that goes on is ended by the next pull; whatever else is there is let alone.
        mkdir /run/left; cp "$(command -v sleep)" /run/left/rsync
        nsenter --mount=$NS -- sh -c "cd $HOLDING/luv; exec /run/left/rsync 300" & left=$!
        nsenter --mount=$NS -- sh -c "cd $HOLDING/luv; exec sleep 300" & other=$!
        for pid in $left $other; do until inside readlink /proc/$pid/cwd | grep -q luv; do kill -0 $pid; done; done
        # A signal ends all of them in an orderly way.
        phobos-pull --config "$CONFIG" luv nuhc & job=$!
        until [ "$(pgrep -c -u 70000,70001 ssh)" = 2 ]; do kill -0 $job; done
        code=0; wait $left || code=$?; test $code = 137; kill $other
        kill -TERM $job; code=0; wait $job || code=$?
        test $code = 143; never pgrep -u 70000,70001 .
        test "$(mark luv state)$(mark nuhc state)" = failedfailed
        sed -i /bandwidth/d pull.d/*.toml
        expect 0 "" pull luv nuhc
        same luv; same nuhc
        never inside sh -c "find $HOLDING -name '.phobos-*' | grep ."
        "#,
    );
}

#[test]
fn pulls_wait_for_the_nightly_job_and_start_with_the_oldest() {
    tell(
        r#"
        for name in luv nuhc chew; do client $name; echo x >$name/home/x; done
        expect 0 "" pull chew; expect 0 "" pull luv
        pull --all --jobs 1 --json >outcomes
        test "$(sed -n 's/.*"host": "\(.*\)",/\1/p' outcomes | tr '\n' ' ')" = "nuhc chew luv "
        mkfifo night
        phobos-ns --config "$CONFIG" exec --job night --lock holding -- sh -c "echo >$STORY/night; exec sleep 300" & night=$!
        read -r _ <night
        expect 75 "held by night (pid $night" pull --lock-wait 0s luv
        phobos-pull --config "$CONFIG" luv & job=$!
        until ns status | grep 'awaited by: pull-luv'; do kill -0 $job; done
        kill $night; wait $night || true; wait $job
        # A mistake in one host's file is that host's.
        echo 'source = 1' >pull.d/nuhc.toml
        expect 0 "" pull luv
        expect 78 "pull.d/nuhc.toml:1: source: invalid type" pull --all
        expect 78 "no host is called phobos; give it a [[pull]] table" pull phobos
        expect 2 "is no name for a host" pull ../luv
        "#,
    );
}

#[test]
fn no_shell_sees_the_name_of_a_source_and_other_ways_than_ssh_work() {
    tell(
        r#"
        client luv; let_in luv restrict
        hit=hit${STORY##*/}
        name="wü \$(touch $hit) \`touch $hit\`; touch $hit & 'it' \"is\" #x"
        mkdir "luv/home/$name"; echo x >"luv/home/$name/x"
        echo "source = [$(printf 'root@luv:/home/%s/' "$name" | sed 's/"/\\"/g; s/.*/"&"/')]" >pull.d/luv.toml
        expect 0 "luv: copied 1 files" pull luv
        same luv
        test -z "$(find / -xdev -name "$hit" 2>/dev/null)"
        for i in 1 2 3; do echo $i >"luv/home/$name/$i"; done; expect 0 "" pull luv
        rm "luv/home/$name/1"; expect 0 "deleted 1" pull luv; same luv
        rm "luv/home/$name/"*; expect 65 "all 3 files in /home/$name (home/$name/x, " pull luv
        # A key that is restricted to a folder.
        mkdir -p luv/home/jon; echo y >luv/home/jon/y
        let_in luv 'restrict,command="rrsync -ro /home"'
        configure luv "source = ['root@luv:/home/jon/']" "root = '/home'"
        expect 0 "luv: copied 1 files" pull luv
        inside test -f "$HOLDING/luv/home/jon/y"

        # An rsync daemon.
        client nuhc; echo la >nuhc/home/song
        printf '[music]\npath = %s/nuhc/home\nuse chroot = no\nuid = root\ngid = root\n' "$STORY" >nuhc/rsyncd.conf
        configure nuhc "source = ['rsync://nuhc/music/']"
        expect 66 "it is not there: " pull nuhc
        ip netns exec nuhc rsync --daemon --config="$STORY/nuhc/rsyncd.conf"
        expect 0 "nuhc: copied 1 files" pull nuhc
        inside cmp $HOLDING/nuhc/music/song "$STORY/nuhc/home/song"

        # This machine.
        mkdir -p own/d; echo z >own/d/z; chown 4711 own/d/z
        configure own "source = ['$STORY/own/d']"
        expect 0 "own: copied 1 files" pull own
        test "$(inside stat -c %u "$HOLDING/own$STORY/own/d/z")" = 4711
        # What an earlier tool has pulled belongs to others.
        inside chown 4711 $HOLDING/luv
        taken=$(inside find $HOLDING/luv ! -type d | wc -l)
        expect 78 "does not belong to phobos-pull; give it over with \`phobos-ns exec -- chown -hR phobos-pull: $HOLDING/luv\`" pull luv
        ns exec -- chown -hR phobos-pull: $HOLDING/luv
        # What belongs to the user of all hosts, as before there was one for each, is given to the host's own.
        mkdir outside; echo theirs >outside/theirs; chown 990 outside/theirs
        inside ln -s "$STORY/outside/theirs" $HOLDING/luv/link; inside ln -s "$STORY/outside" $HOLDING/luv/home/way
        inside chown -h phobos-pull: $HOLDING/luv/link $HOLDING/luv/home/way
        before=$(received luv)
        expect 0 "luv: its holding space belongs to a user of its own from now on, 7000" pull luv
        test -z "$(inside find $HOLDING/luv ! -uid "$(owner luv)")"
        test "$(stat -c %u outside/theirs)" = 990
        test "$(inside find $HOLDING/luv ! -type d | wc -l)" -ge "$taken"
        expect 0 "luv: copied 0 files" pull luv
        # A copy of a space is another host's.
        inside cp -a $HOLDING/luv $HOLDING/twin; cp pull.d/luv.toml pull.d/twin.toml
        expect 0 "twin: its holding space belongs to a user of its own" pull twin
        test "$(owner luv)" != "$(owner twin)"
        "#,
    );
}

#[test]
fn whoever_watches_sees_a_line_for_each_host_and_the_light() {
    tell(
        r#"
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
        "#,
    );
}
