//! Remote unlock as it is set up on the machine: Debian's own packages, and initramfs that are really made. That a machine boots
//! from one is the rig's to show.

use anyhow::{Result, ensure};
use phobos_tests::{Container, Story, booted, minutes};

type Nas = phobos_tests::Nas<Container>;

/// The newest initramfs, unpacked into `/root/tree`.
const UNPACK: &str =
    "rm -rf /root/tree; unmkinitramfs /boot/initrd.img-* /root/tree; cd /root/tree; test ! -d main || cd main";

/// All that `setup` may change, as text that can be compared.
fn state(nas: &Nas) -> Result<String> {
    nas.sh(
        "cd /etc; sha256sum dropbear/initramfs/authorized_keys dropbear/initramfs/dropbear.conf initramfs-tools/modules \
         initramfs-tools/conf.d/* 2>&1 | sort; ls -l --time-style=full-iso /boot; ls -A /var/lib/phobos/unlock 2>/dev/null || true",
    )
}

#[test]
fn remote_unlock_is_set_up_proved_and_taken_back() -> Story {
    booted(|nas| {
        let a = nas.drive("A")?;
        nas.plug(&a)?;
        nas.sh("ssh-keygen -q -t ed25519 -N '' -C owner@laptop -f /root/unlock")?;
        let said = nas.sh("! phobos-unlock setup --key /root/unlock.pub 2>&1")?;
        ensure!(said.contains("run `apt-get install dropbear-initramfs cryptsetup-initramfs`"), "{said}");
        nas.install("cryptsetup-initramfs", "")?;
        nas.install("dropbear-initramfs", "")?;
        nas.sh("echo 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ other@pc' >/etc/dropbear/initramfs/authorized_keys")?;

        // Without an encrypted disk there is nothing to unlock: what the machine boots from stays, and so do the files.
        let before = state(nas)?;
        let said = nas.sh("! phobos-unlock setup --key /root/unlock.pub 2>&1")?;
        ensure!(said.contains("no encrypted disk is configured in it"), "{said}");
        ensure!(state(nas)? == before, "{}", state(nas)?);
        nas.sh(&format!(
            "echo 'root_crypt {} none plain,cipher=aes-xts-plain64,size=256,hash=sha256,initramfs' >>/etc/crypttab",
            a.device()
        ))?;
        let said = nas.sh("phobos-unlock setup --key /root/unlock.pub --port 2222 --dry-run")?;
        ensure!(
            said.contains("  + DROPBEAR_OPTIONS=\"-s -j -k -I 300 -p 2222\"") && said.contains("made anew"),
            "{said}"
        );
        ensure!(state(nas)? == before, "{}", state(nas)?);

        // Killed at any moment it leaves an initramfs that was there before or one that is proved.
        for wait in ["0.2", "1", "4"] {
            nas.sh(&format!("timeout -s KILL {wait} phobos-unlock setup --key /root/unlock.pub --port 2222 || true"))?;
            nas.sh("for image in /boot/initrd.img-*[0-9a-z]; do case $image in *unproved) ;; *) lsinitramfs $image | grep -q . ;; esac; done")?;
        }
        // Of two at once one is told so. Who looks whether the lock is held must not take it.
        let said = nas.sh(
            "set -e; phobos-unlock setup --key /root/unlock.pub --port 2222 >/root/said 2>&1 & job=$!; \
             until grep -q \":$(stat -c %i /run/phobos/unlock/setup.lock) \" /proc/locks; do kill -0 $job; sleep 0.05; done; code=0; \
             phobos-unlock setup --revert >/root/other 2>&1 || code=$?; test $code = 75; grep -q 'is at work' /root/other; \
             wait $job; cat /root/said",
        )?;
        ensure!(said.contains("it lets somebody do more than unlock: ssh-rsa ") && said.contains("SHA256:"), "{said}");
        ensure!(
            said.contains("after some wrong passphrases for root_crypt this machine asks for none any more"),
            "{said}"
        );
        let tree = nas.sh(&format!("{UNPACK}; cat root-*/.ssh/authorized_keys etc/dropbear/dropbear.conf conf/conf.d/phobos-unlock cryptroot/crypttab"))?;
        for part in
            ["no-pty,command=\"/bin/cryptroot-unlock\" ssh-ed25519 ", "other@pc", "-p 2222\"", "IP=dhcp", "root_crypt "]
        {
            ensure!(tree.contains(part), "{part} is not in {tree}");
        }
        nas.sh("ls -A /var/lib/phobos/unlock /boot | grep -v . || ! ls /boot /var/lib/phobos/unlock | grep unproved")?;
        let after = state(nas)?;
        let said = nas.sh("phobos-unlock setup --key /root/unlock.pub --port 2222 --dry-run")?;
        ensure!(!said.contains("  + ") && state(nas)? == after, "{said}");

        // What is wrong later on is told, one thing after the other.
        let said = nas.sh("! phobos-unlock check 2>&1")?;
        ensure!(
            said.contains("can do more than unlock: ssh-rsa ")
                && said.contains("add the option tries=0 to its line in /etc/crypttab")
                && said.contains("error: 2 things are wrong"),
            "{said}"
        );
        nas.sh("sed -i /other@pc/d /etc/dropbear/initramfs/authorized_keys; sed -i s/,initramfs/,initramfs,tries=0/ /etc/crypttab")?;
        let said = nas.sh("! phobos-unlock check 2>&1")?;
        ensure!(said.contains("is older than /etc/dropbear/initramfs/authorized_keys"), "{said}");
        nas.sh("update-initramfs -u 2>&1; phobos-unlock check | grep 'can be unlocked from afar'")?;

        // The way back leaves what was there before.
        nas.sh("phobos-unlock setup --revert")?;
        let said = nas.sh(
            "cat /etc/dropbear/initramfs/* 2>/dev/null | grep -a phobos-unlock; ls /etc/initramfs-tools/conf.d; true",
        )?;
        ensure!(!said.contains("phobos-unlock"), "{said}");
        nas.wait_until("nothing is left", "! ls /var/lib/phobos/unlock/* /boot/*unproved", minutes(1))
    })
}
