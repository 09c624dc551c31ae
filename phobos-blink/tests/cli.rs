//! The program as it is called: exit codes and streams, on a machine without a stick and with a kernel LED at most.

#![expect(clippy::unwrap_used, reason = "a test ends where what it needs is not there")]

use assert_cmd::Command;
use tempfile::TempDir;

/// A call of the program with a board, and a configuration that knows no light, of its own.
struct Blink {
    folder: TempDir,
}

impl Blink {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("phobos.toml"), "[led]\ndevice = \"none\"\n").unwrap();
        Self { folder }
    }

    /// Runs it and returns exit code, standard output and standard error.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_phobos-blink"))
            .env("PHOBOS_LED_RUN", self.folder.path().join("run"))
            .env("PHOBOS_LED_KEPT", self.folder.path().join("kept"))
            .env_remove("COLUMNS")
            .args(args)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Runs one of the arbiter's commands.
    fn arbiter(&self, args: &[&str]) -> (i32, String, String) {
        let config = format!("--config={}", self.folder.path().join("phobos.toml").display());
        self.run(&[args, &[config.as_str()]].concat())
    }
}

#[test]
fn a_mistake_is_told_as_blinkstick_tells_it() {
    let (code, out, err) = Blink::new().run(&["--in"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(
        err,
        "BlinkStick control script 1.2.0\n(c) Agile Innovative Ltd 2013-2014\n\nUsage: phobos-blink [options] [color]\n\n\
         phobos-blink: error: ambiguous option: --in (--index, --info, --inverse?)\n"
    );
}

#[test]
fn help_goes_to_standard_output() {
    let (code, out, err) = Blink::new().run(&["-h", "--nope"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let original = include_str!("../fixtures/blinkstick-help.txt").replace("Usage: blinkstick", "Usage: phobos-blink");
    let own = out.strip_prefix(&original).expect("it begins as the original's");
    assert!(
        own.starts_with("\nThe light that many jobs share") && own.contains("  128+N  ended by signal N\n"),
        "{own}"
    );
    let (code, out, _) = Blink::new().run(&["jobs", "--help"]);
    assert!(code == 0 && out.starts_with("The light that many jobs share"), "{out}");
    assert_eq!(Blink::new().run(&["--version"]).0, 0);
}

#[test]
fn a_failure_stays_until_it_is_acknowledged() {
    let blink = Blink::new();
    assert_eq!(blink.arbiter(&["job", "ext", "failed", "--text", "cable"]).0, 0);
    assert_eq!(blink.arbiter(&["job", "mail", "ok"]).0, 0);
    let (code, out, _) = blink.arbiter(&["jobs"]);
    assert_eq!((code, out.lines().next().unwrap()), (0, "light: failed (ext)"));
    assert!(blink.arbiter(&["jobs", "--json"]).1.contains("\"text\": \"cable\""));
    assert_eq!(blink.arbiter(&["ack"]).2, "info: the failure of ext is acknowledged\n");
    assert!(blink.arbiter(&["jobs"]).1.starts_with("light: ok (mail)\n"));
    assert_eq!(blink.arbiter(&["show"]), (0, String::new(), String::new()));
}

#[test]
fn a_job_that_is_posted_for_a_process_fails_with_it() {
    let blink = Blink::new();
    // The process that runs this is the test's, and it lives.
    blink.arbiter(&["job", "ext", "working"]);
    assert!(blink.arbiter(&["jobs"]).1.starts_with("light: working (ext)\n"));
    let (code, _, err) = blink.arbiter(&["job", "ext", "working", "--pid", "1073741823"]);
    assert_eq!(code, 1);
    assert!(err.starts_with("error: cannot find the process 1073741823: "), "{err}");
}

#[test]
fn wrong_arguments_and_wrong_settings_have_their_own_exit_codes() {
    let blink = Blink::new();
    assert_eq!(blink.arbiter(&["job", "../x", "ok"]).0, 2);
    assert_eq!(blink.arbiter(&["job", "x", "green"]).0, 2);
    assert_eq!(blink.arbiter(&["show", "x"]).0, 2);
    let path = blink.folder.path().join("phobos.toml");
    std::fs::write(&path, "[mail]\nto = 3\n\n[led]\nfailed = { color = \"rde\" }\n").unwrap();
    let (code, _, err) = blink.arbiter(&["show"]);
    assert_eq!(code, 78);
    let want = format!("error: {}:5: led.failed.color: \"rde\" is no colour", path.display());
    assert!(err.starts_with(&want), "{err}");
    std::fs::write(&path, "[mail]\nto = 3\n\n[led]\ndevice = \"none\"\n").unwrap();
    assert_eq!(blink.arbiter(&["show"]).0, 0, "a mistake elsewhere does not put the light out");
    std::fs::write(&path, "[led]\ndevice = \"sysfs:no-such-led\"\n").unwrap();
    let (code, _, err) = blink.arbiter(&["show"]);
    assert_eq!((code, err.starts_with("error: cannot write /sys/class/leds/no-such-led/")), (74, true), "{err}");
    assert_eq!(blink.arbiter(&["job", "x", "ok"]).0, 0, "the post stands, whatever the light does");
}

#[test]
fn a_breathing_light_ends_with_its_standard_input() {
    let blink = Blink::new();
    assert_eq!(blink.arbiter(&["show", "--breathe"]), (0, "breathing\n".to_owned(), String::new()));
}
