//! The udev rule of `--add-udev-rule`.

use std::io;
use std::path::Path;

use phobos_core::fs::{Durability, replace};

/// Where the original puts its rule, so that this one replaces it.
pub(crate) const PATH: &str = "/etc/udev/rules.d/85-blinkstick.rules";

/// Where phobos's own rule is, which lets some users set the light and no rule after it let more.
const STRONGER: &str = "/etc/udev/rules.d/70-phobos-blinkstick.rules";

/// Lets every user set the light, as the original's rule does, through the usb node and through the hidraw node.
const RULE: &str = r#"SUBSYSTEM=="usb", ATTR{idVendor}=="20a0", ATTR{idProduct}=="41e5", MODE:="0666"
KERNEL=="hidraw*", ATTRS{idVendor}=="20a0", ATTRS{idProduct}=="41e5", MODE:="0666"
"#;

/// Writes the rule to `path`.
pub(crate) fn write(path: &Path) -> io::Result<()> {
    replace(path, RULE.as_bytes(), 0o644, Durability::Synced)
}

/// The rule that leaves this one without effect, if it is there.
pub(crate) fn stronger() -> Option<&'static Path> {
    Some(Path::new(STRONGER)).filter(|rule| rule.exists())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_rule_serves_both_nodes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rule");
        write(&path).unwrap();
        let rule = fs::read_to_string(&path).unwrap();
        assert_eq!(rule.lines().count(), 2);
        for line in rule.lines() {
            assert!(line.contains(r#""20a0""#) && line.contains(r#""41e5""#) && line.ends_with(r#"MODE:="0666""#));
        }
        assert!(write(&folder.path().join("no/rule")).is_err());
    }
}
