//! Drives that phobos itself makes, from the shop to the mirror, and the way back without this machine.

use anyhow::{Context, Result, ensure};
use phobos_tests::{Drive, Light, Nas, Story, minutes, seconds, seed, story};

/// How the machine names the drive `name` that is plugged in.
fn device(name: &str) -> String {
    format!("/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_rig-{name}-0:0")
}

/// From the shop to green by one command: killed at steps of all kinds and begun again, it comes to the same end.
#[test]
fn prepared_by_one_command() -> Story {
    story(|nas| {
        let mut shop = nas.fresh_drive("shop", 200)?;
        nas.write("/etc/phobos/phobos.toml", "")?;
        nas.sh("for table in fstab crypttab; do touch /etc/$table; cp -a /etc/$table /root/$table; done")?;
        plug(nas, &shop)?;
        let fresh = nas.bytes(&shop)?;
        let prepare = format!("phobos-ext prepare {} --name shop --serial", device("shop"));
        let planned = nas.sh(&format!("{prepare} rig-shop --dry-run"))?;
        let steps = planned.lines().filter(|line| is_step(line)).count();
        ensure!(steps == 15 && planned.contains("QEMU HARDDISK, serial number rig-shop"), "{planned}");
        refused(nas, 65, "is rig-shop, not", &format!("{prepare} rig-ship"))?;
        ensure!(nas.bytes(&shop)? == fresh, "a refusal and a dry run write nothing");

        // Without a passphrase, whose making takes time, but for the last two; in between the disk is begun anew each time.
        // Which of the three kinds of step is tried in each run is left to chance.
        let serial = "rig-shop --no-recovery";
        let is_long = phobos_tests::is_long();
        for step in if is_long { (1..=9).collect() } else { vec![[5, 7, 8][usize::try_from(seed() % 3)?]] } {
            killed(nas, &format!("{prepare} {serial}"), step)?;
        }
        killed(nas, &format!("{prepare} rig-shop"), 6)?;
        killed(nas, &format!("{prepare} rig-shop"), 12)?;
        let passphrase =
            nas.sh("cp /root/out /root/passphrase; test $(wc -w </root/passphrase) = 8; cat /root/passphrase")?;
        // The drive is made by now, and what is left are four steps of this machine's.
        for step in 1..=if is_long { 4 } else { 0 } {
            killed(nas, &format!("{prepare} rig-shop"), step)?;
        }
        let said = nas.sh_within(&format!("{prepare} rig-shop 2>&1"), minutes(5))?;
        ensure!(said.contains("the drive shop is ready") && !said.contains(passphrase.trim()), "{said}");
        nas.sh("test ! -e /var/lib/phobos/prepare/shop.json; ! ls /etc/phobos/headers/*.new 2>/dev/null")?;
        shop.uuid = nas.sh("sed -n 's/^uuid = \"\\(.*\\)\"/\\1/p' /etc/phobos/drives.d/shop.toml")?.trim().to_owned();
        is_made(nas, &shop)?;

        nas.pull(&shop)?;
        nas.plug(&shop)?;
        nas.wait_for_light(Light::Yellow, minutes(2))?;
        let green = nas.wait_for_light(Light::Green, minutes(5))?;
        ensure!(green.witness.is_at_rest(), "{green}");
        nas.wait_for_unit(&shop.unit(), "inactive", seconds(60))?;
        nas.check_copy(&shop)?;
        nas.sh(&format!(
            "mkdir -m 700 /root/kept; cp /root/passphrase /root/kept/recovery-passphrase; printf %s '{}' >/root/kept/borg-passphrase",
            phobos_tests::PASSPHRASE
        ))?;
        let recovers = "CREDENTIALS_DIRECTORY=/root/kept phobos-ext drill shop --recovery --time 1s";
        let said = nas.sh_within(
            &format!("mv /etc/phobos/keys/shop.key /root; {recovers} 2>&1; mv /root/shop.key /etc/phobos/keys"),
            minutes(5),
        )?;
        ensure!(said.contains("files restored from shop"), "{said}");
        nas.sh("phobos-ext drives | tr -s '\\n ' ' ' | grep 'or later, with the recovery passphrase'")?;
        if is_long {
            let said =
                nas.sh(&format!("sed -i 's/^[a-z]*/other/' /root/kept/recovery-passphrase; ! {recovers} 2>&1"))?;
            ensure!(said.contains("error: the recovery passphrase does not open the drive shop"), "{said}");
            nas.sh("phobos-ext drives | tr -s '\\n ' ' ' | grep 'the drive shop did not pass its drill'")?;
        }

        // Again, and with what wipes: a drive that is known keeps its copy.
        let before = nas.bytes(&shop)?;
        for words in ["", " --wipe"] {
            nas.sh(&format!("{prepare} rig-shop{words}"))?;
        }
        ensure!(nas.bytes(&shop)? == before, "a drive that is known was written to");
        the_way_back(nas, &shop)
    })
}

/// What this machine needs, what is in use, what holds something: not one byte of it is changed. And a drive with LUKS is adopted,
/// opened and closed from every state that a kill can leave.
#[test]
fn disks_left_alone_and_drives_left_open() -> Story {
    story(|nas| {
        let b = nas.drive("B");
        nas.write("/etc/phobos/phobos.toml", "")?;
        plug(nas, &b)?;
        let before = nas.bytes(&b)?;
        let prepare = |device: &str, words: &str| format!("phobos-ext prepare {device} --name X --serial {words}");
        let b_by_id = device("B");
        refused(nas, 65, "crypto_LUKS", &prepare(&b_by_id, "rig-B"))?;
        own_disks_are_left_alone(nas)?;
        let mapped = format!("cryptsetup open --key-file /etc/phobos/keys/B.key {b_by_id} other");
        nas.sh(&format!("{mapped} --readonly"))?;
        refused(nas, 65, "is open as /dev/mapper/other", &prepare(&b_by_id, "rig-B --wipe"))?;
        nas.sh("cryptsetup close other; ! ls /etc/phobos/keys/X.key /var/lib/phobos/prepare 2>/dev/null")?;
        ensure!(nas.bytes(&b)? == before, "a disk that was refused has changed");

        nas.sh(&format!("phobos-ext adopt {b_by_id} --name B"))?;
        let script = CLOSED_FROM_ANY_STATE.replace("UUID", &b.uuid).replace("DEVICE", &b_by_id);
        nas.write("/root/script", &script)?;
        let run = "bash -x /root/script >/root/traced 2>&1 || { tail -n 30 /root/traced >&2; exit 1; }";
        nas.sh_within(run, minutes(5))?;
        nas.wait_until_closed()?;
        pulled_in_the_middle(nas)
    })
}

/// The machine's own disks are refused without a byte of them written. Its file systems stand still meanwhile: what is written
/// then is written past them.
fn own_disks_are_left_alone(nas: &Nas) -> Result<()> {
    nas.sh("mkdir -p /var/lib/phobos; mount -t tmpfs tmpfs /var/lib/phobos; sync; fsfreeze --freeze /")?;
    let looked = (|| {
        for (disk, why) in [
            ("$(findmnt -no SOURCE /)", "/etc/fstab has it for /"),
            ("/dev/disk/by-label/backup", "is the disk of the backups itself"),
        ] {
            let before = nas.own_disks()?;
            refused(nas, 65, why, &format!("phobos-ext prepare {disk} --name X --serial x --wipe"))?;
            ensure!(nas.own_disks()? == before, "{disk} was refused and has changed");
            // What would have been seen: ext4 leaves the first sector to a boot loader, and there is none.
            nas.sh(&format!(
                "printf '%512s' x | dd of={disk} bs=512 count=1 iflag=fullblock oflag=direct status=none"
            ))?;
            ensure!(nas.own_disks()? != before, "a look at {disk} sees no write");
        }
        Ok(())
    })();
    nas.sh("fsfreeze --unfreeze /; umount /var/lib/phobos")?;
    looked
}

/// A drive that is pulled out while it is prepared is a failure that leaves nothing open; plugged in again it is begun anew.
fn pulled_in_the_middle(nas: &mut Nas) -> Result<()> {
    let fresh = nas.fresh_drive("fresh", 48)?;
    plug(nas, &fresh)?;
    nas.slow_drive(&fresh, 300)?;
    let prepare = format!("phobos-ext prepare {} --name fresh --serial rig-fresh --no-recovery", device("fresh"));
    nas.write("/etc/phobos/phobos.toml", "")?;
    nas.sh(&format!("systemd-run --quiet --unit=preparing {prepare}"))?;
    nas.wait_until("the container is being made", "journalctl -u preparing | grep -q 'step 5 of'", minutes(1))?;
    nas.pull(&fresh)?;
    let unit = nas.wait_for_unit("preparing", "failed", minutes(2))?;
    ensure!(unit.status == 1, "{unit:?}");
    let journal = nas.journal("preparing")?;
    ensure!(journal.contains("the same command once more goes on"), "{journal}");
    nas.wait_until_closed()?;
    plug(nas, &fresh)?;
    let said = nas.sh_within(&format!("{prepare} 2>&1"), minutes(5))?;
    ensure!(said.contains("the drive fresh is ready"), "{said}");
    nas.wait_until_closed()
}

/// Every way in which a drive can be open, and how it is opened and closed from there.
const CLOSED_FROM_ANY_STATE: &str = "\
set -eu
ns='nsenter --mount=/run/phobos/ns/backup'
unlock() { cryptsetup open --key-file /etc/phobos/keys/B.key DEVICE $1; }
closed() { phobos-ext close ${1:-B} 2>said || { cat said; false; }; cat said; grep -q 'safe to unplug' said; ! ls /sys/block | grep -q ^dm-; }
opened() { place=$(phobos-ext open B); $ns test -e $place/.phobos/drive.json; ! test -e $place/.phobos; }
phobos-ns
# Unlocked under the name of a mirror, of a look, of neither; mounted where mirrors are, twice, or elsewhere in the namespace.
unlock extbackup; closed; unlock phobos-open-B; closed; unlock other; closed UUID
unlock extbackup; $ns mount /dev/mapper/extbackup /extbackup; closed
unlock extbackup; $ns sh -c 'mount /dev/mapper/extbackup /extbackup; mount /dev/mapper/extbackup /extbackup; mount /dev/mapper/extbackup /mnt'; closed
# Opened from each of these, and again while it is open.
unlock extbackup; $ns mount /dev/mapper/extbackup /extbackup; opened; opened; closed
# Somebody is in it: who that is is said, and it is closed when they are gone.
opened; $ns sh -c \"cd $place; exec sleep 1000\" & sleeper=$!
until $ns fuser -s -m $place; do sleep 0.1; done
! phobos-ext close B 2>said; cat said; grep -q \"sleep 1000. (pid $sleeper\" said; kill $sleeper; wait $sleeper || true; closed
# As a kill leaves it while the kernel makes a mapping: there is one, and nothing behind it; closed, and opened all the same.
gone() { closed; ! dmsetup ls | grep -v No.devices; }
half() { dmsetup create --notable --uuid CRYPT-LUKS2-$(echo UUID | tr -d -)-$1 $1; }
more() { half $1; dmsetup load $1 --table \"0 2048 linear DEVICE 32768\"; }
half phobos-open-B; gone; half extbackup; gone; half phobos-open-B; opened; gone; half other; opened; gone
more phobos-open-B; gone; more extbackup; gone; more phobos-open-B; opened; gone; more other; opened; gone
# Killed at moments of opening and of closing.
for moment in 0.1 0.3 0.7 1.2; do
    phobos-ext open B & job=$!; sleep $moment; kill -KILL $job 2>/dev/null || true; wait $job || true; closed
    phobos-ext open B; phobos-ext close B & job=$!; sleep $moment; kill -KILL $job 2>/dev/null || true; wait $job || true; closed
done
# Without a configuration that can be read, by its number.
unlock extbackup; $ns mount /dev/mapper/extbackup /extbackup; echo '[' >/etc/phobos/phobos.toml; closed UUID
";

/// The machine is lost. With the drive and the sheet alone, its commands followed word by word, a machine with stock Debian tools
/// restores every archive; then a new machine with phobos adopts the drive and goes on.
fn the_way_back(nas: &mut Nas, drive: &Drive) -> Result<()> {
    refused(
        nas,
        65,
        "does not open the drive shop",
        "sh -c 'echo no such words | phobos-ext recovery-sheet --with-passphrases'",
    )?;
    let sheet = nas.sh("phobos-ext recovery-sheet --with-passphrases </root/passphrase")?;
    let page = nas.sh("phobos-ext recovery-sheet --html")?;
    ensure!(sheet.contains("QEMU HARDDISK, serial number rig-shop") && sheet.contains("BORG PAPER KEY"), "{sheet}");
    ensure!(page.contains("<h2>") && page.contains("is kept at"), "{page}");
    let words =
        sheet.lines().find_map(|line| line.split_once("passphrase of shop: ")).context("no passphrase")?.1.to_owned();
    let list = "find holding -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum";
    let pulled = nas.sh(&format!("nsenter --mount=/run/phobos/ns/backup sh -c 'cd /backup; {list}'"))?;

    nas.lose_the_machine()?;
    nas.sh("! ls /usr/local/bin/phobos-* /etc/phobos /var/lib/phobos /usr/lib/systemd/system/phobos-* 2>/dev/null")?;
    plug(nas, drive)?;
    let open: Vec<_> = commands(&sheet, "1. ").into_iter().filter(|line| !line.starts_with("apt-get")).collect();
    let restore = commands(&sheet, "2. ");
    ensure!(restore.len() == 5 && restore[4].starts_with("rsync "), "{restore:?}");
    let script = [
        format!("set -eu; export BORG_PASSPHRASE='{}'; WORDS='{words}'\n", phobos_tests::PASSPHRASE),
        typed(&open),
        format!("archives=$({} | cut -d' ' -f1)\n{}\n", restore[0], restore[1]),
        format!(
            "for NAME in $archives; do rm -rf /root/back/*; {}; {}; done\n",
            restore[2],
            restore[3].replace("NAME", "$NAME")
        ),
        format!("{list}\necho $archives\n"),
        format!("rm -rf /root/back/*; {}; test -f home/me/note-1.txt\n", restore[4].replace("HOST", "luv")),
        typed(&commands(&sheet, "3. ")),
    ];
    let said = run(nas, &script.concat())?;
    ensure!(said.contains(pulled.trim()), "what was restored is not what was pulled: {said}");
    ensure!(said.contains("phobos-night-1 phobos-night-2 phobos-night-3"), "{said}");
    nas.wait_until_closed()?;

    let again = commands(&sheet, "A new machine");
    nas.install_phobos()?;
    nas.sh("mkfs.ext4 -q -F -L backup $(readlink -f /dev/disk/by-label/backup); udevadm settle; phobos-ns")?;
    let (brought, adopted): (Vec<_>, Vec<_>) = again.into_iter().partition(|line| line.starts_with("phobos-ns"));
    let close = commands(&sheet, "3. ");
    let script = [format!("set -eu; WORDS='{words}'\n"), typed(&open), typed(&brought), typed(&close), typed(&adopted)];
    run(nas, &script.concat())?;
    nas.sh_within(&format!("systemctl start '{}'", drive.unit()), minutes(5))?;
    nas.check_copy(drive)
}

/// The commands of the sheet below the heading that begins so.
fn commands(sheet: &str, heading: &str) -> Vec<String> {
    let below = sheet.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    let lines = below.take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.strip_prefix("        ")).map(str::to_owned).collect()
}

/// The commands as somebody runs them who types the passphrase where it is asked for.
fn typed(lines: &[String]) -> String {
    let asks = |line: &str| ["cryptsetup open", "cryptsetup luksAddKey"].iter().any(|asks| line.starts_with(asks));
    let words = |line: &str| if asks(line) { "echo \"$WORDS\" | " } else { "" };
    lines.iter().flat_map(|line| [words(line), line, "\n"]).collect()
}

/// Runs a script of many commands.
fn run(nas: &Nas, script: &str) -> Result<String> {
    nas.write("/root/script", script)?;
    nas.sh_within("bash -x /root/script 2>/root/traced || { tail -n 20 /root/traced >&2; exit 1; }", minutes(8))
}

/// Runs `command` and kills it when it begins the step.
fn killed(nas: &Nas, command: &str, step: usize) -> Result<()> {
    // By the shell alone: until another program has looked, the last steps are over.
    let script = format!(
        "rm -f /root/told; mkfifo /root/told; : >/root/said; {command} >/root/out 2>/root/told & job=$!
        while read -r line; do
            case $line in 'info: step {step} of'*) kill -KILL $job ;; esac; echo \"$line\" >>/root/said
        done </root/told
        wait $job; echo $?; cat /root/said"
    );
    let said = nas.sh_within(&script, minutes(5))?;
    ensure!(said.starts_with("137"), "step {step}: {said}");
    Ok(())
}

/// Whether a line of a dry run begins a step.
fn is_step(line: &str) -> bool {
    line.trim_start().split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

/// Plugs `drive` in and waits until the machine has it.
fn plug(nas: &mut Nas, drive: &Drive) -> Result<()> {
    nas.plug(drive)?;
    nas.wait_until("the drive is there", &format!("test -b {}", device(drive.name)), minutes(1))
}

/// Runs `command`, which must end with `code` and say `why`.
fn refused(nas: &Nas, code: u8, why: &str, command: &str) -> Result<()> {
    let said = nas.sh(&format!("{command} </dev/null >/run/said 2>&1; echo $?; cat /run/said"))?;
    ensure!(said.starts_with(&code.to_string()) && said.contains(why), "`{command}` did not say {why:?}: {said}");
    Ok(())
}

/// What a prepared drive is like, and what this machine knows of it.
fn is_made(nas: &Nas, drive: &Drive) -> Result<()> {
    let (name, uuid, device) = (drive.name, &drive.uuid, device(drive.name));
    let state = nas.sh(&format!(
        "set -eu
        test \"$(stat -c '%a %s' /etc/phobos/keys/{name}.key)\" = '400 64'
        test \"$(stat -c %a /etc/phobos/keys /etc/phobos/headers | sort -u)\" = 700
        cryptsetup open --test-passphrase --key-file /etc/phobos/keys/{name}.key /etc/phobos/headers/{name}-{uuid}.header
        tr -d '\\n' </root/passphrase | cryptsetup open --test-passphrase --key-file=- /dev/disk/by-uuid/{uuid}
        test \"$(wc -w </root/passphrase)\" = 8; test \"$(wc -l </root/passphrase)\" = 1
        cat /root/crypttab - <<END | cmp - /etc/crypttab
extbackup-{name} UUID={uuid} /etc/phobos/keys/{name}.key luks,noauto
END
        cmp /root/crypttab /etc/crypttab.before-phobos
        cmp /root/fstab /etc/fstab
        systemctl is-enabled '{unit}' >&2
        sfdisk --json {device} | grep -E 'start|\"size|name'
        cryptsetup luksDump {device}-part1 | grep -E 'PBKDF:|sector:'",
        unit = drive.unit(),
    ))?;
    ensure!(state.contains("\"start\": 2048") && state.contains("phobos-shop"), "{state}");
    ensure!(state.contains("pbkdf2") && state.contains("argon2id"), "{state}");
    let inside = nas.look_at(
        drive,
        "ls -A; stat -c %a .phobos; cat .phobos/drive.json; dumpe2fs -h \"$device\" 2>/dev/null | grep -E 'volume name|Reserved block count'",
    );
    let inside = inside.context("the drive cannot be read")?;
    ensure!(inside.contains("extbackup") && inside.contains("\"drive\": \"shop\""), "{inside}");
    ensure!(inside.lines().any(|line| line.starts_with("Reserved block count") && line.ends_with(" 0")), "{inside}");
    Ok(())
}
