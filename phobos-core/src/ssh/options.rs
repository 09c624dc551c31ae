//! The options with which ssh does nothing that it was not told to.

use std::path::Path;

/// The options of an ssh that asks nobody, trusts the keys in `known_hosts` alone, learns no others, shows no key but `identity`
/// where one is given, and gives the host nothing of this machine (`ssh_config(5)`). They have to stand in front: ssh takes the first
/// value that it finds.
pub fn strict_options(known_hosts: &Path, identity: Option<&Path>) -> Vec<String> {
    let trusted = [
        "BatchMode=yes".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        format!("UserKnownHostsFile={}", option_path(known_hosts)),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "UpdateHostKeys=no".to_owned(),
    ];
    let identity =
        identity.map(|identity| [format!("IdentityFile={}", option_path(identity)), "IdentitiesOnly=yes".to_owned()]);
    let kept = ["ForwardAgent=no", "ClearAllForwardings=yes", "PermitLocalCommand=no"].map(str::to_owned);
    trusted.into_iter().chain(identity.into_iter().flatten()).chain(kept).collect()
}

/// A path as ssh's configuration takes it: it splits at spaces, and expands `%` and `${…}`.
fn option_path(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_and_nothing_in_it_is_expanded() {
        let options = strict_options(Path::new("/known hosts"), Some(Path::new("/k/a%d")));
        assert!(options.contains(&"UserKnownHostsFile=\"/known hosts\"".to_owned()));
        assert!(options.contains(&"IdentityFile=\"/k/a%%d\"".to_owned()));
        let without = strict_options(Path::new("/known"), None);
        assert_eq!(without.len() + 2, options.len());
        assert!(!without.iter().any(|option| option.starts_with("Identit")));
    }
}
