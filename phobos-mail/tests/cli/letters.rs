//! What may lie in a spool: letters, and anything else; in a folder of somebody else, too.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::smtp::{Manner, Server};
use crate::{Machine, ended, free_port};

/// A user who may do nothing: nobody.
const NOBODY: u32 = 65534;

#[test]
fn whatever_lies_in_the_queue_is_set_aside_and_holds_nothing_up() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with(&format!("smtp://127.0.0.1:{}", free_port()));
    assert_eq!(machine.run(&["a.service"]).code, Some(75));
    let [letter] = &machine.queue()[..] else { panic!("{:?}", machine.queue()) };
    let letter: serde_json::Value = serde_json::from_slice(&fs::read(letter).unwrap()).unwrap();
    let queue = machine.path("state/queue");
    for (number, key, value) in [
        (1, "written", serde_json::json!(253_402_300_800_i64)),
        (2, "written", serde_json::json!(i64::MIN)),
        (3, "version", serde_json::json!(99)),
        (4, "id", serde_json::json!("x\r\nBcc: evil@example.org")),
    ] {
        let mut bad = letter.clone();
        bad[key] = value;
        fs::write(queue.join(format!("{number}.json")), bad.to_string()).unwrap();
    }
    fs::write(queue.join("5.json"), [0xff; 1000]).unwrap();
    symlink("/etc/passwd", queue.join("6.json")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, queue.join("7.json"), rustix::fs::Mode::RUSR).unwrap();
    fs::create_dir(queue.join("8.json")).unwrap();
    File::create(queue.join("9.json")).unwrap().set_len(8 << 30).unwrap();

    machine.write("phobos.toml", &format!("[mail]\ntransport = 'smtp://127.0.0.1:{}'\n", server.port));
    let flushed = machine.run(&["flush"]);
    assert_eq!(flushed.code, Some(0), "{flushed:?}");
    assert_eq!(server.taken().len(), 1);
    assert!(machine.queue().is_empty());
    assert_eq!(flushed.stderr.matches(" holds no letter, and is set aside: ").count(), 9, "{flushed:?}");
    assert_eq!(machine.run(&["list"]).stdout.matches("it holds no letter: ").count(), 9);
    for number in 1..=9 {
        let dropped = machine.run(&["drop", &number.to_string()]);
        assert_eq!(dropped.code, Some(0), "{number}: {dropped:?}");
    }
    assert_eq!(machine.run(&["list"]).stdout, "");
}

#[test]
fn standard_output_may_be_full_or_closed() {
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    for sink in ["/dev/full", "&-"] {
        let script = format!(
            "exec {} --config {} test >{sink}",
            env!("CARGO_BIN_EXE_phobos-mail"),
            machine.path("phobos.toml").display()
        );
        let mut command = assert_cmd::Command::new("sh");
        command.env_clear().env("PATH", format!("{}:/usr/bin:/bin", machine.path("bin").display()));
        command.env("STATE_DIRECTORY", machine.path("state"));
        command.env("PHOBOS_LED_RUN", machine.path("led")).env("PHOBOS_LED_KEPT", machine.path("led-kept"));
        command.args(["-c", &script]);
        let ended = ended(command);
        assert!(!ended.stderr.contains("panicked") && ended.code != Some(101), "{ended:?}");
    }
    assert_eq!(server.taken().len(), 2);
}

#[test]
fn both_spools_are_flushed_listed_and_handed_over() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let port = free_port();
    let machine = Machine::with(&format!("smtp://127.0.0.1:{port}"));
    let command = |args: &[&str]| {
        let mut command = machine.command(args);
        command.env("PHOBOS_MAIL_UNITS", machine.path("units")).env("PHOBOS_MAIL_OWN", machine.path("own"));
        command.env_remove("STATE_DIRECTORY");
        ended(command)
    };
    assert_eq!(command(&["a.service"]).code, Some(75));
    fs::create_dir(machine.path("units")).unwrap();
    chown(machine.path("units"), Some(NOBODY), Some(NOBODY)).unwrap();
    assert_eq!(command(&["b.service"]).code, Some(75));
    let count = |folder: &str| fs::read_dir(machine.path(folder).join("queue")).unwrap().count();
    assert_eq!((count("own"), count("units")), (1, 1));
    assert_eq!(command(&["list"]).stdout.lines().count(), 2);
    assert_eq!(command(&["collect"]).code, Some(0));
    assert_eq!((count("own"), count("units")), (0, 2));
    for entry in fs::read_dir(machine.path("units/queue")).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().uid(), NOBODY);
    }
    let server = Server::start_at(port, Manner::Takes);
    assert_eq!(command(&["flush"]).code, Some(0));
    assert_eq!(server.taken().len(), 2);
}

/// Flips names in a folder that belongs to nobody, as nobody, between folders, links and nothing, as fast as it can.
struct Attacker(Child);

impl Attacker {
    fn start(folder: &Path, target: &Path) -> Self {
        let script = "cd $1; while :; do \
            rmdir queue units refused; rm -f queue units refused; \
            ln -s $2 queue; ln -s $2 units; ln -s $2 refused; \
            rm -f queue units refused; mkdir queue units; rm -rf units/* ; \
            ln -s $2/shadow units/$3.lock; ln -s $2/shadow units/$3.json; ln -s $2/shadow queue/1.json; \
            rm -rf queue units; done 2>/dev/null";
        #[expect(clippy::disallowed_methods, reason = "a test's own process")]
        let mut command = std::process::Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--pdeathsig=KILL",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        // The lock of a.service, by the FNV-1a of its name.
        let hash = "a.service"
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        command.arg(folder).arg(target).arg(format!("{hash:016x}"));
        Self(command.stdout(Stdio::piped()).process_group(0).spawn().unwrap())
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        // What its shell has started goes with it, and is gone when nobody has its output any more.
        let group = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
        self.0.wait().unwrap();
        self.0.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn root_gives_nothing_away_in_a_folder_of_somebody_else() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let server = Server::start(Manner::Takes);
    let machine = Machine::with_server(&server);
    fs::set_permissions(machine.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let (state, target) = (machine.path("state"), machine.path("etc"));
    fs::create_dir(&state).unwrap();
    chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(target.join("shadow"), "secret").unwrap();
    fs::set_permissions(target.join("shadow"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::set_permissions(&target, PermissionsExt::from_mode(0o755)).unwrap();
    let looks = || {
        let folder = fs::metadata(&target).unwrap();
        let file = fs::metadata(target.join("shadow")).unwrap();
        let names = fs::read_dir(&target).unwrap().count();
        (
            folder.uid(),
            folder.mode(),
            file.uid(),
            file.mode(),
            fs::read_to_string(target.join("shadow")).unwrap(),
            names,
        )
    };
    let before = looks();
    let server_settings = fs::read_to_string(machine.path("phobos.toml")).unwrap();
    let attacker = Attacker::start(&state, &target);
    for _ in 0..60 {
        for args in [&["light"][..], &["flush"], &["list"], &["a.service"], &["light", "--given-on"]] {
            let ended = match args {
                // As the last step of a unit that has left something.
                [light, "--given-on"] => {
                    machine.write("phobos.toml", "[mail]\ntransport = 'sendmail'\n");
                    let mut command = machine.command(&[light]);
                    let ended = ended({
                        command.env("EXIT_STATUS", "75");
                        command
                    });
                    machine.write("phobos.toml", &server_settings);
                    ended
                }
                args => machine.run(args),
            };
            assert!(!ended.stderr.contains("panicked"), "{ended:?}");
            assert!(!ended.stdout.contains("secret") && !ended.stderr.contains("secret"), "{ended:?}");
            assert_eq!(looks(), before, "{args:?}: {ended:?}");
        }
    }
    drop(attacker);
    // The same without a race: the names are links from the start.
    for name in ["queue", "units", "refused"] {
        match fs::symlink_metadata(state.join(name)) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(state.join(name)).unwrap(),
            Ok(_) => fs::remove_file(state.join(name)).unwrap(),
            Err(_) => {}
        }
        symlink(&target, state.join(name)).unwrap();
    }
    let ended = machine.run(&["a.service"]);
    assert_eq!(ended.code, Some(0), "told without a spool: {ended:?}");
    assert_eq!(looks(), before);
}

#[test]
fn the_last_step_of_a_unit_calls_sendmail_as_the_spools_owner_for_what_the_unit_has_left() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let machine = Machine::with("sendmail");
    fs::set_permissions(machine.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir(machine.path("state")).unwrap();
    chown(machine.path("state"), Some(NOBODY), Some(NOBODY)).unwrap();
    let report = machine.path("report");
    fs::write(&report, "").unwrap();
    chown(&report, Some(NOBODY), None).unwrap();
    fs::write(machine.path("calls"), "").unwrap();
    fs::set_permissions(machine.path("calls"), PermissionsExt::from_mode(0o666)).unwrap();
    // One that works outside of the unit alone, and goes on when it has ended.
    let works = format!(
        "[ -z \"$IN_UNIT\" ] || {{ echo 'no new privileges' >&2; exit 1; }}\n( sleep 1; echo \"$(id -u) $(id -G)\" >>{} ) >/dev/null 2>&1 &",
        report.display()
    );
    machine.program("sendmail", &works);
    let step = |status: &str| {
        let mut command = machine.command(&["light"]);
        command.env("EXIT_STATUS", status).env("SERVICE_RESULT", "success");
        ended(command)
    };
    let fails = || {
        let mut command = machine.command(&["a.service"]);
        command.env("IN_UNIT", "yes");
        ended(command)
    };
    assert_eq!(fails().code, Some(75));
    // Nothing was left by this unit: what waits has a timer of its own.
    assert_eq!((step("0").code, machine.queue().len()), (Some(0), 1));
    let given_on = step("75");
    assert_eq!(given_on.code, Some(0), "{given_on:?}");
    assert!(
        given_on.stderr.contains("1 message sent through sendmail, free of the unit's confinement"),
        "{given_on:?}"
    );
    assert_eq!(fs::read_to_string(&report).unwrap(), format!("{NOBODY} {NOBODY}\n"), "it was waited for");
    assert!(machine.queue().is_empty());
    // Where that fails too, it is the unit's failure.
    machine.program("sendmail", "echo 'cannot write to the spool' >&2; exit 1");
    let mut command = machine.command(&["b.service"]);
    command.env("IN_UNIT", "yes");
    assert_eq!(ended(command).code, Some(75));
    let left = step("75");
    assert_eq!(left.code, Some(1), "{left:?}");
    assert!(
        left.stderr.contains("1 message cannot be sent: ") && left.stderr.contains("cannot write to the spool"),
        "{left:?}"
    );
    // A server is asked by the unit itself, and by nobody else.
    machine.write("phobos.toml", &format!("[mail]\ntransport = 'smtp://127.0.0.1:{}'\n", free_port()));
    let calls = machine.calls();
    assert_eq!((step("75").code, machine.calls()), (Some(1), calls));
}
