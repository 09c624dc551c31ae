//! phobos-mail as systemd calls it, with a mail server and a systemd of the test's own.

#![expect(clippy::unwrap_used, reason = "what breaks fails the test")]

mod letters;
mod servers;
mod smtp;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin_cmd;
use smtp::{Manner, Server, free_port};
use tempfile::TempDir;

const ID: &str = "0123456789abcdef0123456789abcdef";

/// A machine on which phobos-mail runs: a spool, a configuration, and programs that play systemd's.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn with(transport: &str) -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        machine.write("phobos.toml", &format!("[mail]\ntransport = '{transport}'\n"));
        fs::set_permissions(machine.path("phobos.toml"), PermissionsExt::from_mode(0o600)).unwrap();
        fs::create_dir(machine.path("bin")).unwrap();
        machine
            .program("systemctl", "echo 'Failed to get properties: Transport endpoint is not connected' >&2; exit 1");
        machine.program("journalctl", "exit 0");
        machine.program("phobos-blink", "exit 0");
        machine
    }

    fn with_server(server: &Server) -> Self {
        Self::with(&format!("smtp://127.0.0.1:{}", server.port))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Puts a program in the place of a real one; it writes down how it was called.
    fn program(&self, name: &str, script: &str) {
        let log = self.path("calls").display().to_string();
        let file = self.path("bin").join(name);
        fs::write(&file, format!("#!/bin/sh\necho \"{name} $*\" >> {log}\n{script}\n")).unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = cargo_bin_cmd!("phobos-mail");
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        command.env_clear().env("PATH", path).env("STATE_DIRECTORY", self.path("state"));
        // Where the machine that runs the tests has a systemd, it is none of theirs.
        command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", self.path("bus").display()));
        command.env("PHOBOS_LED_RUN", self.path("led")).env("PHOBOS_LED_KEPT", self.path("led-kept"));
        command.arg("--config").arg(self.path("phobos.toml")).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args))
    }

    /// The files of the messages that wait.
    fn queue(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("state/queue")) else { return Vec::new() };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn ended(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_failure_is_mailed_with_all_that_is_known() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    machine.program(
        "systemctl",
        &format!(
            r"cat <<'END'
Id=backup-exthdd.service
Description=mirror the repository
LoadState=loaded
ActiveState=failed
SubState=failed
Result=exit-code
InvocationID={ID}
ExecStart={{ path=/usr/bin/nsenter ; argv[]=/usr/bin/nsenter --mount=/run/phobos/ns/backup /usr/local/bin/phobos-ext ; ignore_errors=no ; start_time=[@1700000000] ; stop_time=[@1700007980] ; pid=11 ; code=exited ; status=65 }}
InactiveExitTimestamp=@1700000000
InactiveEnterTimestamp=@1700007980
END"
        ),
    );
    machine.program(
        "journalctl",
        &format!(
            r#"case "$*" in
*MESSAGE_ID=*) echo '{{"__REALTIME_TIMESTAMP":"1700000000000000","UNIT":"nightly.service","UNIT_RESULT":"timeout"}}' ;;
*{ID}*) echo '{{"__REALTIME_TIMESTAMP":"1700007980000000","SYSLOG_IDENTIFIER":"phobos-ext","_PID":"11","MESSAGE":"the drive holds something else"}}' ;;
esac"#
        ),
    );
    let ended = machine.run(&["backup-exthdd.service"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let [mail] = &server.taken()[..] else { panic!("{:?}", server.taken()) };
    assert_eq!(mail.header("Subject"), "unit backup-exthdd.service failed");
    assert_eq!(mail.header("X-Phobos-Invocation"), ID);
    assert!(mail.to.starts_with("root@"), "{}", mail.to);
    let body = mail.body();
    let first = body.lines().next().unwrap();
    assert!(first.starts_with("backup-exthdd.service failed on "), "{first}");
    assert!(
        first.ends_with(
            ", after 2h 13m: /usr/local/bin/phobos-ext ended with exit code 65, which means: refused, because \
             the source or the drive is not what it should be; nothing was changed."
        ),
        "{first}"
    );
    for part in [
        "\n  Active: failed, result: exit-code\n",
        " phobos-ext[11]: the drive holds something else\n",
        " nightly.service (timeout)\n",
        "\nThe light\n  No job has posted anything.\n",
    ] {
        assert!(body.contains(part), "{part} is missing in\n{body}");
    }
    assert!(!body.contains("could not be found out"), "{body}");
    assert!(machine.queue().is_empty());
}

#[test]
fn without_a_bus_or_a_journal_the_mail_is_sent_and_says_so() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    machine.program("journalctl", "echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1");
    let mut command = machine.command(&["a.service"]);
    command.env("MONITOR_UNIT", "a.service").env("MONITOR_INVOCATION_ID", ID);
    command
        .env("MONITOR_SERVICE_RESULT", "signal")
        .env("MONITOR_EXIT_CODE", "killed")
        .env("MONITOR_EXIT_STATUS", "KILL");
    assert_eq!(ended(command).code, Some(0));
    let body = server.taken()[0].body();
    assert!(
        body.starts_with("a.service failed: its program was killed by signal 9 (SIGKILL), which means: "),
        "{body}"
    );
    for part in [
        "The unit's status: Failed to get properties: Transport endpoint is not connected\n",
        "The journal of this run, or the rest of it: No journal files were opened due to insufficient permissions.\n",
        "What else failed: No journal files were opened",
    ] {
        assert!(body.contains(part), "{part} is missing in\n{body}");
    }
}

#[test]
fn a_unit_that_runs_again_by_now_is_mailed_for_the_run_that_failed() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    let new = "f".repeat(32);
    machine.program(
        "journalctl",
        &format!(
            r#"case "$*" in
*MESSAGE_ID=*) echo '{{"__REALTIME_TIMESTAMP":"1700000000000000","UNIT":"a.service","UNIT_RESULT":"exit-code","INVOCATION_ID":"{ID}"}}' ;;
*{ID}*) echo '{{"__REALTIME_TIMESTAMP":"1700000000000000","SYSLOG_IDENTIFIER":"a","_PID":"11","MESSAGE":"it is over"}}'
    echo '{{"__REALTIME_TIMESTAMP":"1700000000000000","_PID":"1","EXIT_CODE":"exited","EXIT_STATUS":"3","MESSAGE":"Main process exited"}}' ;;
*{new}*) echo '{{"__REALTIME_TIMESTAMP":"1700000001000000","SYSLOG_IDENTIFIER":"a","_PID":"12","MESSAGE":"a new start"}}' ;;
esac"#
        ),
    );
    let mut command = machine.command(&["a.service"]);
    command.env("MONITOR_UNIT", "a.service").env("MONITOR_INVOCATION_ID", &new);
    command.env("MONITOR_SERVICE_RESULT", "success").env("MONITOR_EXIT_CODE", "").env("MONITOR_EXIT_STATUS", "");
    assert_eq!(ended(command).code, Some(0));
    let [mail] = &server.taken()[..] else { panic!("{:?}", server.taken()) };
    let body = mail.body();
    assert!(body.lines().next().unwrap().ends_with(": its program ended with exit code 3."), "{body}");
    assert!(body.contains(" a[11]: it is over\n") && !body.contains("a new start"), "{body}");
    assert_eq!(mail.header("X-Phobos-Invocation"), ID);
}

#[test]
fn a_program_that_hangs_does_not_keep_the_mail() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    let hanging = machine.path("hanging");
    machine.program("systemctl", &format!("trap '' TERM; echo $$ >{}; while :; do sleep 1; done", hanging.display()));
    let ended = machine.run(&["a.service"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(server.taken()[0].body().contains("systemd and the journal took too long to answer"));
    // It ends with phobos-mail. What has ended has no command line any more, whoever has yet to collect it.
    let command_line = Path::new("/proc").join(fs::read_to_string(hanging).unwrap().trim()).join("cmdline");
    let end = Instant::now() + Duration::from_secs(30);
    while fs::read(&command_line).is_ok_and(|line| !line.is_empty()) {
        assert!(Instant::now() < end, "the program that hangs has outlived phobos-mail");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_bus_that_does_not_answer_is_left_for_systemctl() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    let bus = UnixListener::bind(machine.path("bus")).unwrap();
    machine.program("systemctl", "echo Id=a.service; echo Description=it has one");
    let ended = machine.run(&["a.service"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(server.taken()[0].body().contains("Description: it has one"), "{}", server.taken()[0].body());
    assert!(bus.accept().is_ok(), "it was asked first");
}

#[test]
fn the_arch_form_names_the_receiver_first() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    assert_eq!(machine.run(&["luv@example.org", "a@b.service"]).code, Some(0));
    assert_eq!(server.taken()[0].to, "luv@example.org");
    assert_eq!(server.taken()[0].header("X-Phobos-Unit"), "a@b.service");
    let ended = machine.run(&["-oQ/tmp x", "c.service"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(server.taken()[1].to.starts_with("root@"), "a bad address must not keep the failure from a human");
    assert!(server.taken()[1].body().contains("To whom this should go: \"-oQ/tmp x\" is no mail address"));
}

#[test]
fn any_name_gives_a_mail_and_no_other_is_asked_for() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    let names = ["-.mount", "*", "ünit", "a\r\nBcc: evil@example.org", r"dev-disk-by\x2duuid-1.device", ""];
    for name in names {
        let ended = machine.run(&[name]);
        assert_eq!(ended.code, Some(0), "{name:?}: {ended:?}");
    }
    let subjects: Vec<_> = server.taken().iter().map(|mail| mail.header("Subject")).collect();
    let want = [
        "unit -.mount failed",
        "unit * failed",
        "unit ünit failed",
        r"unit a\x0d\x0aBcc: evil@example.org failed",
        r"unit dev-disk-by\x2duuid-1.device failed",
        "unit (no name) failed",
    ];
    assert_eq!(subjects, want);
    assert!(server.taken().iter().all(|mail| mail.header("Bcc").is_empty()));
    let asked: Vec<_> =
        machine.calls().lines().filter_map(|call| call.split_once(" -- ")).map(|(_, unit)| unit.to_owned()).collect();
    assert_eq!(asked, ["-.mount", r"dev-disk-by\x2duuid-1.device"]);
}

#[test]
fn what_cannot_be_sent_is_kept_and_sent_later_once_and_in_order() {
    let port = free_port();
    let machine = Machine::with(&format!("smtp://127.0.0.1:{port}"));
    for unit in ["a.service", "b.service", "c.service"] {
        let ended = machine.run(&[unit]);
        assert_eq!(ended.code, Some(75), "{ended:?}");
        let last = ended.stderr.lines().last().unwrap();
        assert!(last.contains(" kept in ") && last.contains("Connection refused"), "{last}");
    }
    assert_eq!(machine.run(&["flush"]).code, Some(75));
    assert_eq!(machine.run(&["flush", "--dry-run"]).stdout.lines().count(), 3);

    let server = Server::start_at(port, Manner::Takes);
    let ended = machine.run(&["flush"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(machine.run(&["flush"]).code, Some(0));
    let subjects: Vec<_> = server.taken().iter().map(|mail| mail.header("Subject")).collect();
    assert_eq!(subjects, ["unit a.service failed", "unit b.service failed", "unit c.service failed"]);
    for mail in server.taken() {
        assert!(mail.body().starts_with("This message is "), "{}", mail.body());
    }
    assert!(machine.queue().is_empty());
}

#[test]
fn the_next_failure_takes_along_what_waits() {
    let port = free_port();
    let machine = Machine::with(&format!("smtp://127.0.0.1:{port}"));
    assert_eq!(machine.run(&["a.service"]).code, Some(75));
    let server = Server::start_at(port, Manner::Takes);
    assert_eq!(machine.run(&["b.service"]).code, Some(0));
    let bodies: Vec<_> = server.taken().iter().map(smtp::Taken::body).collect();
    assert!(bodies[0].starts_with("This message is ") && bodies[1].starts_with("b.service failed"), "{bodies:#?}");
}

#[test]
fn a_message_that_is_refused_does_not_hold_up_the_others() {
    let server = Server::start(Manner::Refuses("nobody@"));
    let machine = Machine::with_server(&server);
    let ended = machine.run(&["nobody@example.org", "a.service"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("does not take mail for nobody@example.org: it says 550 no such user"), "{ended:?}");
    assert_eq!(machine.run(&["b.service"]).code, Some(0), "what was set aside is not tried again");
    assert_eq!(server.taken().len(), 1);
    assert!(machine.queue().is_empty());
    let list = machine.run(&["list"]).stdout;
    assert!(
        list.contains("  set aside  unit a.service failed to nobody@example.org: ") && list.contains("550"),
        "{list}"
    );
    if rustix::process::geteuid().is_root() {
        let posted = fs::read_to_string(machine.path("led/mail.json")).unwrap();
        assert!(posted.contains("1 message was set aside (phobos-mail list)"), "{posted}");
    }
    let json: serde_json::Value = serde_json::from_str(&machine.run(&["list", "--json"]).stdout).unwrap();
    assert_eq!((&json["schema_version"], &json["letters"][0]["state"]), (&1.into(), &"set-aside".into()));
    let id = json["letters"][0]["id"].as_str().unwrap();
    assert_eq!(machine.run(&["flush", "--refused"]).code, Some(1), "it is tried again when asked for");
    assert_eq!(machine.run(&["drop", &id[..10]]).code, Some(0));
    assert_eq!(machine.run(&["list"]).stdout, "");
    assert_eq!(machine.run(&["drop", &id[..10]]).code, Some(2));
    assert!(!machine.path("led/mail.json").exists(), "nothing is left to tell");
}

#[test]
fn a_server_that_never_answers_ends_by_the_time_out() {
    let server = Server::start(Manner::Mute);
    let machine = Machine::with_server(&server);
    let ended = machine.run(&["a.service"]);
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert!(ended.stderr.contains("no answer within 40s"), "{ended:?}");
    assert_eq!(machine.queue().len(), 1);
}

#[test]
fn a_run_that_is_killed_while_it_sends_loses_nothing() {
    let port = Server::start(Manner::MuteAtTheEnd).port;
    let machine = Machine::with(&format!("smtp://127.0.0.1:{port}"));
    let output = machine.command(&["a.service"]).timeout(Duration::from_secs(3)).output();
    assert!(output.is_err() || output.unwrap().status.code().is_none(), "it was killed");
    let server = Server::start(Manner::Takes);
    machine.write("phobos.toml", &format!("[mail]\ntransport = 'smtp://127.0.0.1:{}'\n", server.port));
    assert_eq!(machine.run(&["flush"]).code, Some(0));
    assert_eq!(server.taken().len(), 1);
}

#[test]
fn many_runs_at_once_send_each_message_once() {
    let port = free_port();
    let machine = Machine::with(&format!("smtp://127.0.0.1:{port}"));
    for number in 0..20 {
        assert_eq!(machine.run(&[&format!("u{number}.service")]).code, Some(75));
    }
    let server = Server::start_at(port, Manner::TakesSlowly);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let machine = &machine;
            scope.spawn(move || {
                if number % 2 == 0 {
                    machine.run(&["flush"]);
                } else {
                    machine.run(&[&format!("new{number}.service")]);
                }
            });
        }
    });
    let mut ids: Vec<_> = server.taken().iter().map(|mail| mail.header("Message-ID")).collect();
    ids.sort();
    let all = ids.len();
    ids.dedup();
    assert_eq!((all, ids.len()), (22, 22), "each once, and all of them");
    assert!(machine.queue().is_empty());
}

#[test]
fn a_storm_is_one_mail_and_then_a_summary() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    for _ in 0..200 {
        assert_eq!(machine.run(&["a.service"]).code, Some(0));
    }
    assert_eq!(machine.run(&["flush"]).code, Some(0));
    assert_eq!(server.taken().len(), 1);
    let calls = machine.calls().lines().filter(|call| call.starts_with("systemctl")).count();
    assert_eq!(calls, 1, "what is not mailed is not found out about");

    an_hour_passes(&machine.path("state/units"));
    assert_eq!(machine.run(&["flush"]).code, Some(0));
    assert_eq!(machine.run(&["flush"]).code, Some(0));
    let [_, summary] = &server.taken()[..] else { panic!("{:?}", server.taken()) };
    assert_eq!(summary.header("Subject"), "unit a.service failed 199 more times");
    assert!(summary.body().starts_with("Since the last mail about it, a.service failed 199 more times, "));
    assert_eq!(summary.header("References"), server.taken()[0].header("References"), "one thread");
}

#[test]
fn failures_at_the_same_moment_are_one_storm() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert_eq!(machine.run(&["a.service"]).code, Some(0)));
        }
    });
    assert_eq!(server.taken().len(), 1);
    an_hour_passes(&machine.path("state/units"));
    machine.run(&["flush"]);
    assert_eq!(server.taken()[1].header("Subject"), "unit a.service failed 5 more times");
}

#[test]
fn a_log_of_any_size_and_content_gives_a_mail_that_can_be_read() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    let megabyte = "x".repeat(1 << 20);
    let bytes = vec!["255,27,91,50,74,0,10"; 50_000].join(",");
    let entry = |message: &str| format!("{{\"__REALTIME_TIMESTAMP\":\"1700000000000000\",\"MESSAGE\":{message}}}\n");
    let journal = [
        format!("\"{megabyte}\""),
        format!("[{bytes}]"),
        "\"Bcc: a@b\\r\\n.\\r\\nQUIT\"".to_owned(),
        "null".to_owned(),
    ];
    machine.write("journal", &journal.iter().map(|message| entry(message)).collect::<String>());
    machine.program("journalctl", &format!("cat {}", machine.path("journal").display()));
    let mut command = machine.command(&["a.service"]);
    command.env("MONITOR_INVOCATION_ID", ID);
    let ended = ended(command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let [mail] = &server.taken()[..] else { panic!("{:?}", server.taken()) };
    assert!(mail.text.len() < 500_000, "{}", mail.text.len());
    assert!(mail.header("Bcc").is_empty());
    let body = mail.body();
    assert!(body.contains(r"\x1b[2J\x00") && body.contains("\n      .\n"), "{}", &body[body.len() - 500..]);
    assert!(body.chars().all(|character| character == '\n' || !character.is_control()));
}

/// Makes all that was told an hour and a second older.
fn an_hour_passes(units: &Path) {
    for entry in fs::read_dir(units).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            for mail in record["mails"].as_array_mut().unwrap() {
                *mail = (mail.as_i64().unwrap() - 3601).into();
            }
            fs::write(&path, record.to_string()).unwrap();
        }
    }
}

#[test]
fn a_recovery_is_told_once_and_only_after_a_failure() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    for args in
        [&["--resolved", "a.service"][..], &["a.service"], &["a.service", "--resolved"], &["--resolved", "a.service"]]
    {
        assert_eq!(machine.run(args).code, Some(0));
    }
    let subjects: Vec<_> = server.taken().iter().map(|mail| mail.header("Subject")).collect();
    assert_eq!(subjects, ["unit a.service failed", "unit a.service works again"]);
}

#[test]
fn without_a_spool_the_mail_is_sent_all_the_same() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    machine.write("file", "");
    let run = |machine: &Machine| {
        let mut command = machine.command(&["a.service"]);
        command.env("STATE_DIRECTORY", machine.path("file/spool"));
        ended(command)
    };
    let sent = run(&machine);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert!(sent.stderr.contains("if the mail cannot be sent now, it is lost"), "{sent:?}");
    assert_eq!(server.taken().len(), 1);

    let port = free_port();
    machine.write("phobos.toml", &format!("[mail]\ntransport = 'smtp://127.0.0.1:{port}'\n"));
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(3));
        Server::start_at(port, Manner::Takes)
    });
    assert_eq!(run(&machine).code, Some(0), "the server starts a moment later");
    assert_eq!(late.join().unwrap().taken().len(), 1);

    machine.write("phobos.toml", &format!("[mail]\ntransport = 'smtp://127.0.0.1:{}'\n", free_port()));
    let lost = run(&machine);
    assert_eq!(lost.code, Some(1), "{lost:?}");
    assert!(lost.stderr.lines().last().unwrap().starts_with("error: a mail is lost: "), "{lost:?}");
}

/// A machine whose mail goes to `server` by TLS, with a password, as `scheme` says; it trusts `authority`.
fn with_relay(server: &Server, scheme: &str, authority: &str) -> Machine {
    let machine = Machine::with("auto");
    let authority = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/fixtures").join(authority);
    machine.write(
        "phobos.toml",
        &format!(
            "[mail]\ntransport = '{scheme}://localhost:{}'\ncredential = 'relay'\nca-file = '{}'\n",
            server.port,
            authority.display()
        ),
    );
    machine.write("relay", "user\npass word\n");
    machine
}

fn run_with_credentials(machine: &Machine) -> Ended {
    let mut command = machine.command(&["a.service"]);
    command.env("CREDENTIALS_DIRECTORY", machine.folder.path());
    ended(command)
}

#[test]
fn a_relay_is_spoken_to_in_tls_and_gets_the_password_of_the_credential() {
    for (manner, scheme) in [(Manner::StartTls, "submission"), (Manner::Tls, "submissions"), (Manner::Tls, "smtps")] {
        let server = Server::start(manner);
        let machine = with_relay(&server, scheme, "ca.pem");
        let ended = run_with_credentials(&machine);
        assert_eq!(ended.code, Some(0), "{scheme}: {ended:?}");
        assert!(server.taken()[0].authenticated, "{scheme}");
    }
}

#[test]
fn a_relay_with_a_wrong_certificate_or_without_tls_gets_nothing() {
    for (manner, scheme) in [(Manner::StartTls, "submission"), (Manner::Tls, "submissions")] {
        let server = Server::start(manner);
        let machine = with_relay(&server, scheme, "other-ca.pem");
        let ended = run_with_credentials(&machine);
        assert_eq!(ended.code, Some(75), "{scheme}: {ended:?}");
        assert!(
            ended
                .stderr
                .contains("its certificate is not trusted: nobody whom this machine trusts has signed it; if it is"),
            "{ended:?}"
        );
        assert!(server.taken().is_empty());
    }
    let plain = Server::start(Manner::Takes);
    let ended = run_with_credentials(&with_relay(&plain, "submission", "ca.pem"));
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert!(ended.stderr.contains("it does not offer STARTTLS"), "{ended:?}");
    assert!(plain.taken().is_empty());
}

#[test]
fn a_missing_or_wrong_password_is_told() {
    let server = Server::start(Manner::Tls);
    let machine = with_relay(&server, "submissions", "ca.pem");
    let ended = machine.run(&["a.service"]);
    assert!(ended.stderr.contains("the unit needs LoadCredential=relay:FILE"), "{ended:?}");
    machine.write("relay", "user\nwrong\n");
    let ended = run_with_credentials(&machine);
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert!(ended.stderr.contains("it does not let us in: it says 535 who are you?"), "{ended:?}");
    machine.write("relay", "user:password\n");
    let ended = run_with_credentials(&machine);
    assert!(ended.stderr.contains("must hold the user in its first line and the password in its second"), "{ended:?}");
}

#[test]
fn sendmail_gets_the_message_on_its_standard_input() {
    let machine = Machine::with("sendmail");
    let message = machine.path("message");
    machine.program("sendmail", &format!("cat > {}", message.display()));
    let ended = machine.run(&["a.service"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(machine.calls().contains("sendmail -i root\n"), "{}", machine.calls());
    let message = fs::read_to_string(&message).unwrap();
    assert!(message.contains("\nSubject: unit a.service failed\n") && !message.contains('\r'), "{message}");
    machine.program("sendmail", "echo 'Failed to get user name for uid 62632' >&2; exit 1");
    let failed = machine.run(&["b.service"]);
    assert_eq!(failed.code, Some(75), "{failed:?}");
    assert!(failed.stderr.contains("Failed to get user name for uid 62632"), "{failed:?}");
    assert_eq!(machine.queue().len(), 1);
}

#[test]
fn a_test_says_which_way_it_left_and_leaves_nothing_behind() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    let sent = machine.run(&["test"]);
    assert_eq!(
        (sent.code, sent.stdout),
        (Some(0), format!("the test left through smtp://127.0.0.1:{}\n", server.port))
    );
    machine.write("phobos.toml", &format!("[mail]\ntransport = 'smtp://127.0.0.1:{}'\n", free_port()));
    let failed = machine.run(&["test"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.lines().last().unwrap().starts_with("error: cannot send the test: "), "{failed:?}");
    assert!(machine.queue().is_empty());
}

#[test]
fn a_test_is_sent_as_the_units_send_it() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    let log = machine.path("calls").display().to_string();
    // A systemd that runs the command of the unit as somebody else, who must not see the configuration's folder.
    machine.program(
        "systemctl",
        &format!(
            r#"case "$*" in
show*) echo loaded ;;
start*) D="$PHOBOS_MAIL_TRANSIENT/$2.d"; echo "$(grep ExecStart= $D/*.conf)" >>{log}
    eval "set -- $(sed -n 's/^ExecStart=\(.\+\)/\1/p' $D/*.conf)"; STATE_DIRECTORY=$UNIT_STATE "$@" >$D/out 2>$D/err ;;
esac"#
        ),
    );
    let run = || {
        let mut command = machine.command(&["test", "luv@example.org"]);
        command.env("PHOBOS_MAIL_TRANSIENT", machine.path("transient"));
        command.env("UNIT_STATE", machine.path("state"));
        ended(command)
    };
    let sent = run();
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert!(sent.stdout.ends_with(", as status-email-user@.service sends it\n"), "{sent:?}");
    assert_eq!(server.taken()[0].to, "luv@example.org");
    assert_eq!(fs::read_dir(machine.path("transient")).unwrap().count(), 0, "nothing is left behind");
    // What waits is not forgotten over a test that went well.
    machine.write("phobos.toml", &format!("[mail]\ntransport = 'smtp://127.0.0.1:{}'\n", free_port()));
    assert_eq!(machine.run(&["a.service"]).code, Some(75));
    let failed = run();
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(
        failed.stderr.contains("status-email-user@.service cannot send mail: cannot send the test: "),
        "{failed:?}"
    );
    machine.write("phobos.toml", &format!("[mail]\ntransport = 'smtp://127.0.0.1:{}'\n", server.port));
    assert_eq!(run().code, Some(0));
    assert!(fs::read_to_string(machine.path("led/mail.json")).unwrap().contains("1 message cannot be sent"));
}

#[test]
fn a_mistyped_word_is_no_unit_but_in_a_unit_everything_is() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    for (args, says) in [
        (&["--nonsense"][..], "--nonsense is no option"),
        (&["-n"], "-n is no option"),
        (&["--verbose=x", "a.service"], "is no option"),
        (&["flsuh"], "did you mean flush?"),
        (&["tests"], "did you mean test?"),
    ] {
        let ended = machine.run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(says), "{ended:?}");
    }
    assert!(server.taken().is_empty());
    for word in ["--nonsense", "tests"] {
        let mut command = machine.command(&[word]);
        command.env("INVOCATION_ID", ID);
        assert_eq!(ended(command).code, Some(0));
    }
    assert_eq!(server.taken().len(), 2);
    assert!(machine.run(&["--help"]).stdout.contains("Exit codes: 0 sent"));
}

#[test]
fn a_relay_with_a_certificate_of_its_own_is_pinned_by_it() {
    for (manner, scheme) in [(Manner::StartTls, "submission"), (Manner::Tls, "submissions")] {
        let server = Server::start(manner);
        let machine = with_relay(&server, scheme, "other-ca.pem");
        let refused = run_with_credentials(&machine);
        assert_eq!(refused.code, Some(75), "{refused:?}");
        let pin = include_str!("fixtures/server.sha256").trim();
        let advice = format!("pin it in [mail]: tls-fingerprint = \"{pin}\"");
        assert!(refused.stderr.contains(&advice), "{refused:?}");
        let settings = fs::read_to_string(machine.path("phobos.toml")).unwrap();
        machine.write("phobos.toml", &format!("{settings}tls-fingerprint = 'sha256:{}'\n", "0".repeat(64)));
        let other = run_with_credentials(&machine);
        assert!(
            other.stderr.contains("it is another one than tls-fingerprint says") && server.taken().is_empty(),
            "{other:?}"
        );
        machine.write("phobos.toml", &format!("{settings}tls-fingerprint = '{pin}'\n"));
        assert_eq!(run_with_credentials(&machine).code, Some(0));
        assert!(server.taken().iter().all(|mail| mail.authenticated) && !server.taken().is_empty());
    }
}

#[test]
fn the_light_shows_that_mail_cannot_be_sent() {
    let port = free_port();
    let machine = Machine::with(&format!("smtp://127.0.0.1:{port}"));
    let posted = machine.path("led/mail.json");
    if !rustix::process::geteuid().is_root() {
        machine.run(&["a.service"]);
        assert!(!posted.exists(), "only root may post");
        return;
    }
    machine.run(&["a.service"]);
    assert!(fs::read_to_string(&posted).unwrap().contains("\"attention\""));
    assert!(!machine.calls().contains("phobos-blink"), "it stays red for the unit");
    let _server = Server::start_at(port, Manner::Takes);
    assert_eq!(machine.run(&["flush"]).code, Some(0));
    assert!(!posted.exists());
    assert!(!machine.calls().contains("phobos-blink"), "still");

    machine.write("phobos.toml", &format!("[mail]\ntransport = 'smtp://127.0.0.1:{}'\n", free_port()));
    assert_eq!(machine.run(&["test"]).code, Some(1));
    assert!(posted.exists());
    assert_eq!(machine.calls().matches("phobos-blink show").count(), 1, "it was off");
}

#[test]
fn wrong_arguments_are_told_in_a_line() {
    let machine = Machine::with("sendmail");
    assert_eq!(machine.run(&[]).code, Some(2));
    assert_eq!(machine.run(&["a", "b", "c"]).code, Some(2));
    assert_eq!(machine.run(&["--unknown-option=x", "b", "c"]).code, Some(2));
    machine.write("phobos.toml", "[mail]\nto = ''\n");
    let ended = machine.run(&["flush"]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("phobos.toml:2: to: \"\" is no mail address"), "{ended:?}");
}

#[test]
fn a_note_is_a_mail_of_its_own_and_waits_like_any_other() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    let say = |machine: &Machine, text: &[u8]| {
        let mut command = machine.command(&["note", "B is safe to take away; bring A"]);
        command.write_stdin(text);
        ended(command)
    };
    assert_eq!(say(&machine, b"first\n\x1b[2Jsecond\r\nBcc: somebody@example.org\n").code, Some(0));
    let [letter] = &server.taken()[..] else { panic!("one letter") };
    assert_eq!(letter.header("Subject"), "B is safe to take away; bring A");
    assert!(letter.body().contains("first\r\n\\x1b[2Jsecond\r\n") || letter.body().contains("first\n\\x1b[2Jsecond\n"));
    assert_eq!((letter.header("X-Phobos-Unit"), letter.header("Bcc")), (String::new(), String::new()));
    // Where no server is, it waits, and the light stays as it is.
    machine.write("phobos.toml", &format!("[mail]\ntransport = 'smtp://127.0.0.1:{}'\n", free_port()));
    assert_eq!(say(&machine, b"later").code, Some(75));
    assert_eq!(machine.queue().len(), 1);
    assert!(!machine.calls().contains("phobos-blink"), "{}", machine.calls());
    assert_eq!(say(&machine, &vec![b'x'; 1 << 20]).code, Some(75));
    assert!(machine.queue().iter().all(|file| fs::metadata(file).unwrap().len() < 100_000));
}
