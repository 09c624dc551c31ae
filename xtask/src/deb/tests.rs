//! What dpkg is told, and that its scripts are sound.

use super::*;

fn items() -> Vec<files::Item> {
    files::items(Layout::Package, Path::new("/built"), None).unwrap()
}

#[test]
fn every_unit_that_can_be_enabled_is_known() {
    let units = Units::of(&items()).unwrap();
    for timer in ["phobos-pull.timer", "phobos-mail-flush.timer", "phobos-status-hook.path"] {
        assert!(units.plain.iter().any(|unit| unit == timer), "{timer}: {units:?}");
    }
    for template in ["phobos-ext@.service", "phobos-pull@.timer"] {
        assert!(units.templates.iter().any(|unit| unit == template), "{template}: {units:?}");
    }
    assert!(!units.plain.iter().any(|unit| unit == "phobos-pull.service"));
}

#[test]
fn dpkgs_scripts_are_whole_and_shellcheck_has_nothing_to_say() {
    let sh = Shell::new().unwrap();
    let (items, folder) = (items(), sh.create_temp_dir().unwrap());
    let units = Units::of(&items).unwrap();
    for (name, script) in SCRIPTS {
        let script = units.fill(script, &items).unwrap();
        assert!(
            ["@UNITS@", "@TEMPLATES@", "@SYSUSERS@", "@TMPFILES@", "@STATE@"]
                .iter()
                .all(|place| !script.contains(place))
        );
        let path = folder.path().join(name);
        fs::write(&path, script).unwrap();
        cmd!(sh, "shellcheck {path}").quiet().run().unwrap();
    }
    assert!(Units::default().fill("@UNITS@", &[]).is_err(), "a list of nothing");
}

#[test]
fn a_purge_spares_what_opens_a_drive() {
    let items = items();
    let (_, postrm) = SCRIPTS[2];
    let postrm = Units::of(&items).unwrap().fill(postrm, &items).unwrap();
    for folder in files::PRIVATE {
        let name = folder.rsplit('/').next().unwrap();
        assert!(postrm.contains(&format!("! -name {name}")), "{folder}");
        assert!(!STATE.contains(&folder));
    }
}

#[test]
fn whatever_the_umask_is_files_and_folders_are_for_all() {
    let sh = Shell::new().unwrap();
    let folder = sh.create_temp_dir().unwrap();
    let tree = folder.path().join("tree");
    put(&tree, Path::new("usr/bin/x"), b"x", 0o755).unwrap();
    put(&tree, Path::new("usr/share/y"), b"y", 0o644).unwrap();
    let mode = |path: &str| fs::metadata(tree.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(["", "usr", "usr/bin", "usr/bin/x", "usr/share/y"].map(mode), [0o755, 0o755, 0o755, 0o755, 0o644]);
    assert_eq!(sums(&sh, &tree).unwrap().lines().count(), 2);
    assert_eq!(size(&tree).unwrap(), 6);
}
