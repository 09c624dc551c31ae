//! What the words of ssh and rsync mean for a pull.

use super::*;

fn end(code: i32, lines: &[&str]) -> String {
    let mut complaints = Complaints::default();
    for line in lines {
        complaints.add(line);
    }
    let Ending { exit, text } = of(code, &complaints, "luv");
    format!("{} {text}", exit.code())
}

const CLOSED_LINE: &str = "rsync: connection unexpectedly closed (0 bytes received so far) [Receiver]";
const UNEXPLAINED: &str = "rsync error: unexplained error (code 255) at io.c(232) [Receiver=3.5.0]";
const CLOSED_12: &str = "rsync error: error in rsync protocol data stream (code 12) at io.c(285) [Receiver=3.5.0]";

/// What ssh says in the middle of what rsync makes of it, whichever process notices first.
#[track_caller]
fn both(line: &str, want: &str) {
    for (code, last) in [(255, UNEXPLAINED), (12, CLOSED_12)] {
        let said = end(code, &[line, CLOSED_LINE, last]);
        assert!(said.starts_with(want), "{code}: {said}");
    }
}

#[test]
fn a_host_is_away_for_few_reasons_only() {
    for reason in
        ["Connection refused", "Connection timed out", "No route to host", "Network is unreachable", "Host is down"]
    {
        let line = format!("ssh: connect to host luv port 22: {reason}");
        both(&line, &format!("66 it is not there: {line}"));
        let line = format!("rsync: [Receiver] failed to connect to luv (10.0.0.2): {reason} (111)");
        assert_eq!(end(10, &[&line]), format!("66 it is not there: {line}"));
        both(&format!("channel 0: open failed: connect failed: {reason}"), "66 ");
    }
    for reason in ["Name or service not known", "Temporary failure in name resolution"] {
        both(&format!("ssh: Could not resolve hostname luv: {reason}"), "66 ");
        assert!(end(10, &[&format!("rsync: [Receiver] getaddrinfo: luv 873: {reason}")]).starts_with("66 "));
    }
    both("Timeout, server luv not responding.", "66 it is not there: ");
    let placed = "clientloop.c:server_alive_check():632 (pid=7): Timeout, server luv not responding.";
    both(placed, "66 it is not there: Timeout, server luv");
    for other in [
        "ssh: connect to host luv port 22: Invalid argument",
        "ssh: Could not resolve hostname luv: System error",
        "kex_exchange_identification: Connection closed by remote host",
        "kex_exchange_identification: read: Connection reset by peer",
        "Connection reset by 10.9.1.2 port 22",
        "Connection closed by 10.9.1.2 port 22",
        "client_loop: send disconnect: Broken pipe",
        "Connection timed out during banner exchange",
    ] {
        both(other, "1 the connection was lost: ");
    }
    assert!(
        end(10, &["rsync: [Receiver] failed to connect to luv (10.0.0.2): Permission denied (13)"]).starts_with("1 ")
    );
    assert!(end(255, &[CLOSED_LINE, UNEXPLAINED]).starts_with("1 the connection was closed without a word"));
    assert!(end(12, &[]).starts_with("1 the connection was closed without a word"));
}

#[test]
fn whoever_is_not_let_in_is_no_absentee() {
    both("Host key verification failed.", "65 its host key is not the one that is known; ");
    let unknown = "No ED25519 host key is known for luv and you have requested strict checking.";
    let said = end(255, &[unknown, "Host key verification failed.", CLOSED_LINE, UNEXPLAINED]);
    assert_eq!(said, "65 its host key is not known; run `phobos-pull trust luv`");
    both("root@luv: Permission denied (publickey,keyboard-interactive).", "1 it does not let phobos-pull in: root@luv");
    both(
        "Received disconnect from 10.9.1.2 port 22:2: Too many authentication failures",
        "1 it does not let phobos-pull",
    );
    both(
        "Unable to negotiate with 10.9.1.2 port 22: no matching host key type found. Their offer: ssh-rsa",
        "1 it knows",
    );
    both("command-line: line 0: Bad configuration option: conecttimeout", "78 ssh does not take its options: ");
    both("command-line line 0: Bad SSH2 cipher spec 'none-such'.", "78 ssh does not take its options: ");
    both("ssh: connect to host luv port 2222: Permission denied", "78 ssh is not let out to that port: ");
    both("channel 0: open failed: administratively prohibited: open failed", "1 the host in between does not let");
}

#[test]
fn a_banner_hides_no_reason() {
    let banner: Vec<String> = (0..500).map(|n| format!("** Authorized use only, line {n} **")).collect();
    let mut lines: Vec<&str> = banner.iter().map(String::as_str).collect();
    lines.extend(["root@luv: Permission denied (publickey).", CLOSED_LINE, UNEXPLAINED]);
    assert!(
        end(255, &lines).starts_with("1 it does not let phobos-pull in: root@luv: Permission denied (publickey).; ")
    );
}

#[test]
fn an_unreadable_file_before_a_cut_is_no_refused_key() {
    let file = "rsync: [sender] send_files failed to open \"/home/x\": Permission denied (13)";
    let said = end(12, &[file, "Timeout, server luv not responding.", CLOSED_LINE, CLOSED_12]);
    assert_eq!(said, "66 it is not there: Timeout, server luv not responding.");
    let said = end(12, &[file, CLOSED_LINE, CLOSED_12]);
    assert_eq!(said, format!("1 rsync there ended: {file}"));
}

#[test]
fn what_the_host_said_tells_what_is_wrong_there() {
    for (line, want) in [
        ("bash: line 1: no-such-rrsync: command not found", "1 it has no rsync or rrsync where"),
        ("sh: 1: rrsync: not found", "1 it has no rsync or rrsync where"),
        ("rsync: unrecognized option -- A", "1 its rsync is another one, or too old: "),
        ("rsync: unknown option -- 'X'", "1 its rsync is another one, or too old: "),
        ("/usr/bin/rrsync error: option --x has been disabled on this server.", "1 what restricts the key refuses"),
        ("/usr/bin/rrsync: invalid rsync-command syntax or options", "1 what restricts the key refuses the call: "),
        ("This account is currently not available.", "1 its user may not log in: "),
        ("Killed", "1 rsync there ended: Killed"),
    ] {
        for code in [12, 127, 255] {
            let said = end(code, &[line, CLOSED_LINE]);
            assert!(said.starts_with(want), "{code}: {said}");
        }
    }
    let greeting = "protocol version mismatch -- is your shell clean?";
    assert!(end(2, &[greeting]).starts_with("1 it says something before rsync does: "));
}

#[test]
fn a_file_with_too_many_attributes_is_named() {
    let line = "rsync: [receiver] rsync_xal_set: lsetxattr(\"home/two\",\"user.com.apple\") failed: No space left on device (28)";
    assert!(end(23, &[line]).starts_with("1 home/two has more extended attributes or ACL entries than "));
    let made = "rsync: [receiver] rsync_xal_set: fsetxattr(\"/backup/holding/chew/.phobos-temp-00ff00ff00ff00ff/two.txt.z98eIa\",\"user.x\") \
                failed: No space left on device (28)";
    assert!(end(23, &[made]).starts_with("1 two.txt has more extended attributes "), "{}", end(23, &[made]));
    let full = "rsync: [receiver] write failed on \"/home/photo\": No space left on device (28)";
    assert!(end(11, &[full]).starts_with("1 an error of file I/O"));
}

#[test]
fn a_path_that_is_too_long_is_told_by_its_ends() {
    let path = format!("/backup/holding/luv/{}/f", "d/".repeat(2030));
    let line = format!("rsync: [generator] recv_generator: failed to stat \"{path}\": File name too long (36)");
    let said = end(23, &[&line]);
    assert!(said.starts_with("1 the path /backup/holding/luv/d/d/"), "{said}");
    assert!(said.contains("/d/d//f has 4082 bytes, too many for rsync here; ") && said.len() < 300, "{said}");
}

#[test]
fn a_source_that_is_not_there_is_told_from_a_file_that_vanished() {
    let missing = |line: &str| {
        let mut complaints = Complaints::default();
        complaints.add(line);
        complaints.missing.is_some()
    };
    assert!(missing("rsync: [sender] link_stat \"/home/jon\" failed: No such file or directory (2)"));
    assert!(missing("rsync: [sender] change_dir \"/home/jon\" failed: No such file or directory (2)"));
    assert!(!missing("file has vanished: \"/home/jon/x\""));
    assert!(!missing("rsync: [sender] opendir \"/home/x\" failed: Permission denied (13)"));
}

#[test]
fn what_is_left_out_is_counted() {
    let denied: Vec<_> = (0..50).map(|n| format!("rsync: [sender] opendir \"/{n}\" failed: denied")).collect();
    let denied: Vec<_> = denied.iter().map(String::as_str).collect();
    assert_eq!(
        end(23, &denied),
        format!("1 some files could not be copied: {} | and 47 more", denied[..3].join(" | "))
    );
    assert_eq!(end(5, &["\x1b[2Jx"]), "1 rsync ended with exit code 5: ?[2Jx");
    // What turns the direction of writing round hides what a line says.
    assert_eq!(end(5, &["a\u{202e}b\u{2066}c"]), "1 rsync ended with exit code 5: a?b?c");
}

#[test]
fn fuzz_complaints() {
    phobos_fuzz::target("complaints", &[b"rsync: [sender] link_stat \"/x\" failed: No such file or directory (2)\nroot@luv: Permission denied (publickey).\nssh: connect to host luv port 22: Connection timed out\n", b"rsync error: error in rsync protocol data stream (code 12) at io.c(231) [receiver=3.2.7]\n"], |input| {
        let text = String::from_utf8_lossy(input);
        let mut complaints = Complaints::default();
        text.lines().for_each(|line| complaints.add(line));
        for code in [0, 12, 23, 24, 255] {
            drop(of(code, &complaints, "luv"));
        }
        drop(complaints.summary());
    });
}
