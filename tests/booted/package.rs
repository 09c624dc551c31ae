//! The Debian package: it comes, is replaced, goes and is purged, leaves nothing behind, and disturbs no mirror that runs.

use anyhow::{Context, Result, ensure};
use phobos_tests::{Container, Drive, Story, booted, minutes, packages, seconds};
use std::collections::BTreeSet;

type Nas = phobos_tests::Nas<Container>;

/// All files and folders of the system with owner and mode, but for what a package manager, a daemon or a log writes.
const FILES: &str = "\
find /etc /opt /root /srv /usr /var -xdev \\( -path /var/lib/dpkg -o -path /var/log -o -path /var/cache -o -path /var/tmp \
    -o -path /var/lib/systemd -o -path /var/mail -o -path /var/spool/exim4 -o -path /root/packages -o -path /usr/lib/rig-held \\) -prune \
    -o ! -type d -printf '%p %U:%G %m %y\\n' -o -type d -printf '%p %U:%G %m %y\\n' | grep -Ev '^/etc/(passwd|group|g?shadow|subuid|subgid)-? ' | sort";

/// Takes away what `cargo xtask install` has put in place here, as its manifest says.
const UNINSTALL: &str = "\
cd / && cut -c67- usr/local/share/phobos/manifest | grep -v '^etc/phobos/' | while read -r file; do rm -f \"$file\"; done
rm -r usr/local/share/phobos; find usr/local -depth -type d -empty -delete; systemctl daemon-reload";

#[test]
fn it_comes_and_goes_and_disturbs_no_mirror() -> Story {
    let made = packages(&["0.1.0", "0.2.0"]);
    booted(|nas| {
        for (name, content) in made? {
            nas.put(&format!("/root/packages/{name}"), content)?;
        }
        over_an_installation(nas)?;
        let before = {
            dpkg(nas, "--remove", "phobos")?;
            dpkg(nas, "--purge", "phobos")?;
            nas.sh(FILES)?
        };
        dpkg(nas, "--install", "/root/packages/0.1.0.deb")?;
        as_it_should_be(nas)?;
        let (a, b) = (nas.drive("A")?, nas.drive("B")?);
        nas.expect_drives(&[&a, &b])?;
        nas.sh(&format!(
            "systemctl enable --quiet --now phobos-mail-flush.timer; systemctl enable --quiet '{}'",
            a.unit()
        ))?;

        nas.hold("rsync")?;
        in_the_middle(nas, &a, || dpkg(nas, "--install", "/root/packages/0.2.0.deb"))?;
        ensure!(nas.sh("dpkg-query --show --showformat='${Version}' phobos")? == "0.2.0");
        ensure!(
            nas.read("/etc/phobos/phobos.toml")?.contains("external.drive"),
            "an upgrade takes the configuration away"
        );
        nas.sh("systemctl is-active phobos-mail-flush.timer")?;
        nas.wait_for_state("ok", minutes(1))?;
        nas.sh("mkfifo /run/rig-held")?;
        in_the_middle(nas, &b, || dpkg(nas, "--remove", "phobos"))?;
        nas.restore("rsync")?;
        let history = nas.read("/var/lib/phobos/history.jsonl")?;
        ensure!(history.lines().count() == 2 && !history.contains("\"exit\":1"), "{history}");
        nas.sh("! systemctl is-active phobos-mail-flush.timer; ! [ -e /usr/bin/phobos-ext ]")?;

        // What was removed comes back with its configuration, and with what was enabled; an older version, too.
        dpkg(nas, "--install", "/root/packages/0.1.0.deb")?;
        nas.sh("systemctl is-enabled phobos-mail-flush.timer && grep external.drive /etc/phobos/phobos.toml")?;
        nas.check_copy(&a)?;
        nas.check_copy(&b)?;

        // Keys survive a purge, and nothing else does.
        nas.sh("echo key >/etc/phobos/keys/A.key; phobos-ns remove || true")?;
        let said = dpkg(nas, "--purge", "phobos")?;
        ensure!(said.contains("kept /etc/phobos/keys"), "{said}");
        nas.sh("[ \"$(cat /etc/phobos/keys/A.key)\" = key ] && rm -r /etc/phobos /root/rig-check")?;
        let after = nas.sh(FILES)?;
        same(&before, &after)
    })
}

/// The package beside what was built on the machine: it says so, and works once that is gone.
fn over_an_installation(nas: &Nas) -> Result<()> {
    let said = dpkg(nas, "--install", "/root/packages/0.1.0.deb")?;
    ensure!(said.contains("come before the package's"), "{said}");
    nas.sh(UNINSTALL)?;
    as_it_should_be(nas)
}

/// What the package has brought is as it has it, for all to read, and systemd understands it.
fn as_it_should_be(nas: &Nas) -> Result<()> {
    let verified = nas.sh("dpkg --verify phobos")?;
    ensure!(verified.lines().all(|line| line.ends_with(" c /etc/phobos/phobos.toml")), "{verified}");
    let odd = nas.sh(
        "dpkg-query --listfiles phobos | while read -r file; do [ -e \"$file\" ] || continue; stat -c '%n %U:%G %a' \"$file\"; done \
         | grep -Ev ' root:root (755|644)$' || true",
    )?;
    ensure!(odd.is_empty(), "{odd}");
    let private = nas.sh("stat -c '%n %U:%G %a' /etc/phobos/keys /etc/phobos/headers")?;
    ensure!(private == "/etc/phobos/keys root:root 700\n/etc/phobos/headers root:root 700", "{private}");
    nas.sh("getent passwd phobos-mail phobos-pull")?;
    let enabled = nas.sh("systemctl list-unit-files --state=enabled --no-legend --plain 'phobos-*' || true")?;
    ensure!(enabled.is_empty(), "{enabled}");
    let wrong = nas.sh("systemd-analyze verify /usr/lib/systemd/system/phobos-*.timer /usr/lib/systemd/system/phobos-*[!@].service 2>&1 | grep -i phobos || true")?;
    ensure!(wrong.is_empty(), "{wrong}");
    nas.sh("phobos-blink --version && phobos-status config")?;
    Ok(())
}

/// Has dpkg do something, and returns what it said.
fn dpkg(nas: &Nas, what: &str, about: &str) -> Result<String> {
    let said = nas.sh(&format!(
        "DEBIAN_FRONTEND=noninteractive dpkg --force-confold '--path-include=/usr/share/*' {what} {about} 2>&1"
    ));
    said.with_context(|| format!("dpkg {what} {about}"))
}

/// Does something to the package in the middle of a mirror to `drive`, which goes on and ends well.
fn in_the_middle(nas: &Nas, drive: &Drive, act: impl FnOnce() -> Result<String>) -> Result<()> {
    nas.plug_into_the_middle(drive)?;
    let main = || nas.sh(&format!("systemctl show --value --property=MainPID '{}'", drive.unit()));
    let before = main()?;
    act()?;
    nas.let_go()?;
    ensure!(before != "0" && main()? == before, "the mirror to {} was disturbed: {before}, {}", drive.name, main()?);
    nas.wait_until("the mirror is over", &format!("! [ -e /proc/{before} ]"), minutes(2))?;
    let outcome = nas.wait_for_unit(&drive.unit(), "inactive", seconds(60))?;
    ensure!(outcome.result == "success", "{outcome:?}");
    nas.wait_until_closed()
}

/// Two lists of files are the same.
fn same(before: &str, after: &str) -> Result<()> {
    let [before, after] = [before, after].map(|list| list.lines().collect::<BTreeSet<_>>());
    let (missing, left): (Vec<_>, Vec<_>) = (before.difference(&after).collect(), after.difference(&before).collect());
    ensure!(missing.is_empty() && left.is_empty(), "gone or changed: {missing:#?}\nleft behind: {left:#?}");
    Ok(())
}
