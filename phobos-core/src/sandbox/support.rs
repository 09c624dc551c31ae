//! How much of a confinement the running kernel can do.

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, Scope};

use super::{KNOWN, calls};

/// How much of a confinement this kernel can do beyond what file permissions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// All of it.
    Whole,
    /// The folder, but not the network or signals.
    Files,
    /// Nothing: the kernel has no Landlock, or it is not among its security modules.
    None,
}

/// What the running kernel can do; asking it changes nothing.
pub fn support() -> Support {
    let can = |rules: Result<Ruleset, RulesetError>| rules.is_ok();
    let hard = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if !can(hard().handle_access(AccessFs::from_all(ABI::V1))) {
        return Support::None;
    }
    let network = can(hard().handle_access(AccessNet::from_all(KNOWN)));
    if network && calls::is_possible() && can(hard().scope(Scope::from_all(KNOWN))) {
        Support::Whole
    } else {
        Support::Files
    }
}

impl Support {
    /// What this kernel cannot do, for a warning; `None` if it can do everything.
    pub fn shortfall(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::Files => Some(
                "this kernel (before 6.12) cannot keep a program from network connections and signals; what a host \
                 sends still stays in its holding space",
            ),
            Self::None => Some(
                "this kernel has no Landlock: only file permissions keep what a host sends in its holding space, and \
                 nothing keeps it out of the other hosts'; add landlock to `lsm=` on the kernel's command line",
            ),
        }
    }
}
