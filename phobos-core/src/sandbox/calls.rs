//! The system calls that a confined program does not get: those that lead past Landlock, and to other processes.
//!
//! Landlock knows connections by TCP and nothing of other protocols, and it knows neither limits nor priorities of other
//! processes. The rest are calls that no program needs to copy files, and in which holes in the kernel are often found.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::lookup::Lookup;

/// What no confined program gets.
const NEVER: [libc::c_long; 44] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // It opens sockets behind this filter's back.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    // What is in such a file can be run although it lies in no folder.
    libc::SYS_memfd_create,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_personality,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_syslog,
];

/// Calls that act on the process with this number in this argument; 0 is the caller.
const OF_OTHERS: [(libc::c_long, u8); 7] = [
    (libc::SYS_prlimit64, 0),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_setpriority, 1),
    (libc::SYS_ioprio_set, 1),
];

/// The flags of clone(2) that make new namespaces.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// The bits of socket(2)'s type argument that are the type; the others are flags.
const TYPE_MASK: u64 = 0xf;

/// The bit that marks the x32 numbers of the same calls, on x86-64.
const X32: libc::c_long = 0x4000_0000;

/// Takes the calls away from this thread, and from what it becomes, for good; local sockets stay with `control`.
pub(super) fn restrict(lookup: Lookup, control: bool) -> Result<(), seccompiler::Error> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(()) };
    // The C library then takes the older call, whose flags can be seen.
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    for (rules, errno) in [(unknown, libc::ENOSYS), (denied(lookup, control)?, libc::EPERM)] {
        let errno = u32::try_from(errno).unwrap_or_default();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch)?;
        let program = BpfProgram::try_from(filter)?;
        seccompiler::apply_filter(&program)?;
    }
    Ok(())
}

/// Whether there are filters for this processor.
pub(super) fn is_possible() -> bool {
    TargetArch::try_from(std::env::consts::ARCH).is_ok()
}

fn denied(lookup: Lookup, control: bool) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = NEVER.iter().map(|call| (*call, Vec::new())).collect();
    for (call, argument) in OF_OTHERS {
        rules.insert(call, vec![all_of(&[(argument, SeccompCmpOp::Ne, 0)])?]);
    }
    let flags = NAMESPACES.iter().map(|flag| word(*flag));
    let clone = flags.map(|flag| all_of(&[(0, SeccompCmpOp::MaskedEq(flag), flag)]));
    rules.insert(libc::SYS_clone, clone.collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_socket, sockets(lookup, control)?);
    rules.insert(libc::SYS_socketpair, vec![all_of(&[(0, SeccompCmpOp::Ne, word(libc::AF_UNIX))])?]);
    if cfg!(target_arch = "x86_64") {
        let same: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        rules.extend(same);
    }
    Ok(rules)
}

/// Families, types and protocols that are refused: each rule is enough.
fn sockets(lookup: Lookup, control: bool) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let mut families = vec![libc::AF_INET, libc::AF_INET6];
    let mut types = vec![libc::SOCK_STREAM];
    let mut protocols = vec![0, libc::IPPROTO_TCP];
    if lookup != Lookup::None {
        types.push(libc::SOCK_DGRAM);
        protocols.push(libc::IPPROTO_UDP);
    }
    if control || lookup == Lookup::Services {
        families.push(libc::AF_UNIX);
    }
    let none_of = |argument: u8, values: &[libc::c_int]| {
        let conditions: Vec<_> = values.iter().map(|value| (argument, SeccompCmpOp::Ne, word(*value))).collect();
        all_of(&conditions)
    };
    let mut rules = vec![none_of(0, &families)?, none_of(2, &protocols)?];
    for kind in (0..=TYPE_MASK).filter(|kind| types.iter().all(|allowed| word(*allowed) != *kind)) {
        rules.push(all_of(&[(1, SeccompCmpOp::MaskedEq(TYPE_MASK), kind)])?);
    }
    Ok(rules)
}

/// A rule for calls whose arguments are like this, each compared as the 32 bits that the kernel takes.
fn all_of(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions.iter().map(|(argument, operator, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// A constant of the C library as the kernel sees it.
fn word(value: libc::c_int) -> u64 {
    u64::from(value.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_ones_that_the_kernel_can_be_given() {
        for lookup in [Lookup::None, Lookup::Servers, Lookup::Services] {
            let rules = denied(lookup, lookup == Lookup::Servers).unwrap();
            assert!(rules.contains_key(&libc::SYS_socket) && rules.contains_key(&libc::SYS_ptrace));
            if let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) {
                let errno = SeccompAction::Errno(1);
                let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch).unwrap();
                assert!(BpfProgram::try_from(filter).unwrap().len() < 4096);
            }
        }
    }
}
