//! What an exit code or a signal means, for the programs that run on a backup server.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Code(i32),
    /// Killed by this signal; `core` if it crashed.
    Signal {
        number: i32,
        core: bool,
    },
}

/// The signals that have one number on every Linux machine phobos runs on, by name without `SIG`.
const SIGNALS: [(i32, &str); 17] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (4, "ILL"),
    (5, "TRAP"),
    (6, "ABRT"),
    (7, "BUS"),
    (8, "FPE"),
    (9, "KILL"),
    (10, "USR1"),
    (11, "SEGV"),
    (12, "USR2"),
    (13, "PIPE"),
    (14, "ALRM"),
    (15, "TERM"),
    (24, "XCPU"),
    (31, "SYS"),
];

/// What a program's exit codes mean, as far as that is known.
type Table = fn(i32) -> Option<&'static str>;

/// The programs whose exit codes are known, by the name of their file.
const PROGRAMS: [(&str, Table); 6] = [
    ("phobos-", phobos),
    ("rsync", rsync),
    ("borgmatic", |_| None),
    ("borg", borg),
    ("mount", mount),
    ("umount", mount),
];

/// The name of signal `number`, without `SIG`.
pub(crate) fn signal_name(number: i32) -> Option<&'static str> {
    SIGNALS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// Says how the program of `command` ended, and what that means.
pub(crate) fn of(command: Option<&str>, how: How) -> String {
    match how {
        How::Signal { number, core } => {
            let verb = if core { "crashed with" } else { "was killed by" };
            let name = signal_name(number).map(|name| format!(" (SIG{name})")).unwrap_or_default();
            format!("{verb} signal {number}{name}{}", prefixed(signal(number)))
        }
        How::Code(code) => {
            let known = command.and_then(known_program).and_then(|(_, table)| table(code));
            format!("ended with exit code {code}{}", prefixed(known.or_else(|| general(code))))
        }
    }
}

fn prefixed(meaning: Option<&str>) -> String {
    meaning.map(|meaning| format!(", which means: {meaning}")).unwrap_or_default()
}

/// The program that `command` runs as far as a human is concerned: a known one behind wrappers, else the first word.
pub(crate) fn program(command: &str) -> Option<&str> {
    known_program(command).map(|(word, _)| word).or_else(|| command.split_whitespace().next())
}

/// The program that `command` runs, if its codes are known, looking through wrappers that pass a code on.
fn known_program(command: &str) -> Option<(&str, Table)> {
    let words: Vec<_> = command.split_whitespace().collect();
    words.iter().enumerate().find_map(|(at, word)| {
        // A path elsewhere is an argument: /backup/borg is a repository.
        let name = match word.rsplit_once('/') {
            Some((folder, name)) => Some(name).filter(|_| folder.ends_with("bin"))?,
            None => word,
        };
        let is_wrapper = matches!(words.get(at.saturating_add(1)), Some(&"exec" | &"with-lock"));
        let known = |program: &str| name == program || (program.ends_with('-') && name.starts_with(program));
        let (_, table) = PROGRAMS.iter().find(|(program, _)| known(program) && !is_wrapper)?;
        Some((*word, *table))
    })
}

fn signal(number: i32) -> Option<&'static str> {
    Some(match number {
        9 => {
            "it was ended at once, by somebody, by systemd after a time-out, or by the kernel for want of memory; it could not clean up"
        }
        6 => "it gave up because of an inner error",
        4 | 7 | 8 | 11 => "an error in the program itself, or in the machine's memory",
        13 => "the program that read its output went away",
        15 => "it was asked to end, as by systemctl stop or a shutdown",
        24 => "it used more processor time than it may",
        31 => "it made a system call that its unit forbids",
        _ => return None,
    })
}

fn phobos(code: i32) -> Option<&'static str> {
    Some(match code {
        1 => "the job failed; the log says at what",
        2 => "wrong arguments",
        65 => "refused, because the source or the drive is not what it should be; nothing was changed",
        66 => "the drive or the host is not there",
        75 => "another job held what it needs for too long; it can be tried again later",
        78 => "the configuration is wrong",
        129..=159 => "it was asked to end by a signal",
        _ => return None,
    })
}

/// rsync(1), EXIT VALUES.
fn rsync(code: i32) -> Option<&'static str> {
    Some(match code {
        1 => "wrong syntax or usage",
        2 => "the two rsyncs speak different protocols",
        3 => "it could not select the source or the destination",
        5 => "it could not start talking to the server",
        10 => "the network connection failed",
        11 => "reading or writing a file failed; the disk may be full",
        12 => "the connection broke off, or the other side failed",
        20 => "it was asked to end by a signal",
        22 => "it could not get the memory it needs",
        23 => "some files could not be transferred",
        24 => "some files vanished while it ran",
        25 => "it would have deleted more than it may",
        30 | 35 => "the other side did not answer in time",
        255 => "ssh failed: the host is not there, or does not let us in",
        _ => return None,
    })
}

/// borg(1), RETURN CODES; 3 and above with `BORG_EXIT_CODES=modern`.
fn borg(code: i32) -> Option<&'static str> {
    Some(match code {
        1 => "it finished with warnings; the log says which",
        2 => "it failed; the log says at what",
        13 => "the repository does not exist",
        15 => "this is no repository",
        70..=75 => "the repository is locked by somebody else",
        100..=127 => "it finished with a warning; the log says which",
        129..=159 => "it was asked to end by a signal",
        _ => return None,
    })
}

/// mount(8), EXIT STATUS.
fn mount(code: i32) -> Option<&'static str> {
    Some(match code {
        1 => "wrong usage, or not permitted",
        2 => "the system refused",
        32 => "mounting or unmounting failed",
        _ => return None,
    })
}

/// What any program's code means: the shell's, and those that systemd uses before a program runs (systemd.exec(5)).
fn general(code: i32) -> Option<&'static str> {
    Some(match code {
        126 => "a program could not be executed",
        127 => "a program was not found",
        200 => "systemd could not enter the unit's working directory",
        202 => "systemd could not set up the program's files",
        203 => "systemd could not start the program: it is missing or not executable",
        208 | 209 | 222 => "systemd could not set up the program's input or output",
        216 | 217 => "systemd could not find the unit's user or group",
        218 => "systemd could not set the program's capabilities",
        219 => "systemd could not set up the unit's control group",
        226 => "systemd could not set up the unit's mount namespace",
        228 => "systemd could not set up the filter of system calls",
        233 => "systemd could not make the unit's runtime directory",
        238 => "systemd could not make the unit's state directory",
        243 => "systemd could not load the unit's credentials",
        _ if (200..=245).contains(&code) => "systemd could not set up the unit",
        129..=159 => "it was ended by a signal",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_means_what_its_program_says() {
        let code = |command, code| of(command, How::Code(code));
        let wrapped = Some("/usr/bin/nsenter --mount=/run/phobos/ns/backup /usr/local/bin/phobos-ext");
        assert_eq!(code(wrapped, 66), "ended with exit code 66, which means: the drive or the host is not there");
        let locked = Some("borg with-lock /backup/borg rsync -a /backup/borg b");
        assert_eq!(code(locked, 24), code(Some("rsync"), 24));
        assert_eq!(
            code(Some("/usr/bin/rsync -a a b/borg"), 23),
            "ended with exit code 23, which means: some files could not be transferred"
        );
        assert_eq!(code(Some("/usr/bin/mystery"), 23), "ended with exit code 23");
        assert_eq!(code(None, 127), "ended with exit code 127, which means: a program was not found");
    }

    #[test]
    fn the_program_to_blame_is_the_one_behind_the_wrappers() {
        let wrapped = "/usr/bin/nsenter --mount=/run/phobos/ns/backup /usr/local/bin/phobos-ext";
        assert_eq!(program(wrapped), Some("/usr/local/bin/phobos-ext"));
        assert_eq!(program("/usr/bin/mystery -x"), Some("/usr/bin/mystery"));
        assert_eq!(program(""), None);
    }

    #[test]
    fn a_signal_has_a_name() {
        let killed = of(None, How::Signal { number: 9, core: false });
        assert!(killed.starts_with("was killed by signal 9 (SIGKILL), which means: "), "{killed}");
        let crashed = of(None, How::Signal { number: 11, core: true });
        assert!(crashed.starts_with("crashed with signal 11 (SIGSEGV)"), "{crashed}");
        assert_eq!(of(None, How::Signal { number: 40, core: false }), "was killed by signal 40");
    }
}
