//! The schema agrees with the programs, as a program that knows schemas reads it.

use super::*;
use phobos_site::pull::{Host, HostName};
use schemars::Schema;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Prints for each text whether the schema takes it: nothing, or what is wrong.
const CHECK: &str = "
import json, sys, tomllib
from jsonschema import Draft7Validator
asked = json.load(sys.stdin)
Draft7Validator.check_schema(asked['schema'])
validator = Draft7Validator(asked['schema'])
def said(text):
    return '; '.join(error.message for error in validator.iter_errors(tomllib.loads(text)))
print(json.dumps([said(text) for text in asked['texts']]))
";

#[expect(clippy::disallowed_methods, reason = "a test's own call")]
fn by_schema(schema: &Schema, texts: &[&str]) -> Vec<String> {
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", CHECK])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is not here; `cargo xtask setup` installs it");
    let asked = serde_json::json!({ "schema": schema, "texts": texts }).to_string();
    child.stdin.take().unwrap().write_all(asked.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "`cargo xtask setup` installs python3-jsonschema");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The settings of a table, as the sample has them, each by itself.
fn each(table: &Table) -> impl Iterator<Item = String> {
    table.settings.iter().map(|setting| format!("{}\n{}\n", table.heading, setting.line()))
}

#[test]
fn what_the_programs_take_the_schema_takes() {
    let mut texts = vec![String::new()];
    let drive = "name = 'A'\nuuid = '00000000-0000-4000-8000-00000000000A'\nkey-file = '/k'\n";
    for table in tables().unwrap() {
        if table.is_of_several() {
            // What belongs together; a drive that is not encrypted has no UUID.
            let lines: Vec<String> =
                table.settings.iter().filter(|setting| setting.key != "device").map(Setting::line).collect();
            texts.push(format!("{}\n{}\n", table.heading, lines.join("\n")));
        } else {
            texts.extend(each(&table).filter(|text| !text.contains("credential") && !text.contains("fingerprint")));
        }
    }
    texts.push(format!("[[external.drive]]\n{drive}[[external.drive]]\nname = 'b-2'\ndevice = '/dev/sdx'\n"));
    for value in ["90s", "1h 30m", "0s", "35days", "2weeks", "1.5h"] {
        texts.push(format!("locks.wait = '{value}'\n"));
    }
    for value in ["5%", "20GiB", "1T", "5% up to 1G", "1024"] {
        texts.push(format!("backup.reserve = '{value}'\n"));
    }
    for value in ["auto", "sendmail", "smtp://h", "submission://h:1", "submissions://[::1]", "smtps://h"] {
        texts.push(format!("mail.transport = '{value}'\n"));
    }
    for value in ["none", "blinkstick", "blinkstick:BS1", "sysfs:a::b"] {
        texts.push(format!("led.device = '{value}'\nled.ok = {{ limit = 3 }}\nled.unsafe.color = 'off'\n"));
    }
    for value in ["a:/", "u@a:/b/", "rsync://h:7/m/p", "rsync://h/m/", "root@[::1]:/x", "[fe80::1]:/"] {
        texts.push(format!("[[pull]]\nhost = 'a'\nsource = ['{value}']\nmax-delete = 3\nsuccess = [23, 24]\n"));
    }
    for value in ["*", "pull-*", "backup@home", "_x", "a.b:c+d", "ext-A"] {
        texts.push(format!("led.second = {{ index = 0, jobs = ['{value}'] }}\n"));
    }
    texts.push("[[pull]]\nhost = 'here'\nsource = ['/etc/']\nmax-delete = '100%'\nsuccess = []\n".to_owned());
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert!(texts.len() > 60);
    for (text, said) in texts.iter().zip(by_schema(&Config::schema(), &texts)) {
        let read = Config::parse(Path::new("x"), text).map(drop).map_err(|error| error.to_string());
        assert_eq!((read, said), (Ok(()), String::new()), "{text}");
    }
}

#[test]
fn what_the_programs_refuse_the_schema_refuses() {
    let of_drive = |lines: &str| format!("[[external.drive]]\n{lines}\n");
    let of_host = |lines: &str| format!("[[pull]]\nhost = 'a'\nsource = ['a:/']\n{lines}\n");
    let of_hook = |lines: &str| format!("[[hook]]\n{lines}\n");
    let alone = [
        "backup.mount = 'x'",
        "backup.uid-base = 3",
        "backup.reserve = 'lots'",
        "backup.reserve = '5 %'",
        "locks.wait = '12'",
        "locks.wait = 12",
        "external.mapping = '-x'",
        "external.max-alloc = 'much'",
        "external.notice = 'yes'",
        "led.index = 256",
        "led.device = 'sysfs:../x'",
        "led.ok.limit = 101",
        "led.ok = 'red'",
        "led.ok.brightness = 1",
        "led.off.color = 'red'",
        "led.second = { index = 0, jobs = [] }",
        "led.second = { index = 0 }",
        "led.second = { index = 0, jobs = ['a/b'] }",
        "led.second = { index = 0, jobs = [''] }",
        "led.second = { index = 0, jobs = ['-x'] }",
        "mail.transport = 'pigeon'",
        "mail.transport = 'smtp://'",
        "mail.credential = '../x'",
        "mail.tls-fingerprint = 'md5:1'",
        "mail = 1",
        "backup = 1",
        "pull = 3",
        "borg.x = 1",
    ];
    let mut texts: Vec<String> = alone.map(|line| format!("{line}\n")).into();
    texts.extend(
        ["device = '/x'", "name = '-a'\ndevice = '/x'", "name = 'a'\nuuid = '1'\nkey-file = '/k'"].map(of_drive),
    );
    texts.extend(["max-delete = '101'", "max-delete = -1", "success = [1]", "port = 0", "xattr = true"].map(of_host));
    texts.extend(
        ["ssh-options = ['x']", "time-limit = 'long'", "root = 'x'", "user = 'a b'", "exclude = ['']"].map(of_host),
    );
    texts.extend(["on = ['failed']", "command = ['/x']", "on = ['fails']\ncommand = ['/x']"].map(of_hook));
    texts.extend(["on = ['ok']\ncommand = []", "on = 'ok'\ncommand = ['/x']"].map(of_hook));
    texts.extend(
        ["[[pull]]\nhost = 'a'\n", "[[pull]]\nsource = ['a:/']\n", "[[pull]]\nhost = '.'\nsource = ['a:/']\n"]
            .map(str::to_owned),
    );
    // Each setting of each table, with a value that is none of anything.
    for table in tables().unwrap() {
        for setting in &table.settings {
            texts.push(format!("{}\n{} = 2026-11-28\n", table.heading, setting.key));
        }
        texts.push(format!("{}\nunknown = 1\n", table.heading));
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (text, said) in texts.iter().zip(by_schema(&Config::schema(), &texts)) {
        assert!(Config::parse(Path::new("x"), text).is_err(), "the programs take {text}");
        assert_ne!(said, "", "the schema takes {text}");
    }
}

#[test]
fn a_file_of_a_host_is_the_same_without_its_name() {
    let texts = [
        "source = ['a:/']\n",
        "host = 'a'\nsource = ['a:/']\nacls = false\n",
        "acls = true\n",
        "host = 'a'\n",
        "unknown = 1\n",
    ];
    let name = HostName::try_from("a".to_owned()).unwrap();
    let taken = by_schema(&Config::host_schema(), &texts).into_iter().map(|said| said.is_empty());
    let read = texts.map(|text| Host::parse(&name, text).is_ok());
    assert_eq!(taken.collect::<Vec<_>>(), read);
    assert_eq!(read, [true, true, false, false, false]);
}
