//! The weekly mail: all is well, with the figures, or what is not. Its absence tells that the machine is gone.

use std::path::Path;
use std::time::Duration;

use phobos_core::exec::{Exec, ExecError};
use phobos_site::note;

use crate::model::{Model, Severity};
use crate::screen;

/// How long a mail server may take to be given up for today: the mail waits then.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// What phobos-mail is told of this process's environment: what systemd names is this unit's own, and no spool.
const ENVIRONMENT: [&str; 4] = ["PATH", "TZ", "PHOBOS_MAIL_UNITS", "PHOBOS_MAIL_OWN"];

/// Subject and text.
pub(crate) fn draw(model: &Model) -> (String, String) {
    let wrong = model.findings.iter().filter(|finding| finding.severity == Severity::Failed).count();
    let look = model.findings.len().saturating_sub(wrong);
    let subject = match (wrong, look) {
        (0, 0) => "weekly digest: all is well".to_owned(),
        (0, look) => format!("weekly digest: {look} to look at"),
        (wrong, 0) => format!("weekly digest: {wrong} wrong"),
        (wrong, look) => format!("weekly digest: {wrong} wrong, {look} to look at"),
    };
    (
        subject,
        format!(
            "{}\nThis mail comes every week. If it does not, look after the machine.\n",
            screen::draw(model, false)
        ),
    )
}

/// Hands it to phobos-mail; one that it keeps for later is sent, too.
///
/// # Errors
///
/// When phobos-mail neither sends nor keeps it.
pub(crate) fn send(exec: &dyn Exec, config: Option<&Path>, model: &Model) -> Result<(), ExecError> {
    let (subject, text) = draw(model);
    let call = note::call(config, &subject, text).only_env(&ENVIRONMENT).limit(LIMIT);
    note::hand_over(exec, &call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Machine;
    use phobos_core::exec::fake::Script;

    #[test]
    fn it_says_that_all_is_well_or_what_is_not() {
        let (subject, text) = draw(&Machine::quiet().model());
        assert_eq!(subject, "weekly digest: all is well");
        assert!(text.contains("borgmatic") && text.ends_with("If it does not, look after the machine.\n"), "{text}");
        let (subject, text) = draw(&Machine::bad().model());
        assert_eq!(subject, "weekly digest: 1 wrong, 5 to look at");
        assert!(text.contains("\nFAILED  pull of chew failed"), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    }

    #[test]
    fn a_mail_that_waits_is_sent_and_one_that_is_lost_is_not() {
        let model = Machine::quiet().model();
        let script = Script::new().ok().fails(75, "the mail waits").fails(1, "no spool");
        assert!(send(&script, None, &model).is_ok() && send(&script, Some(Path::new("/c")), &model).is_ok());
        assert!(send(&script, None, &model).is_err());
        assert_eq!(script.calls()[1], "phobos-mail --config /c note -- 'weekly digest: all is well'");
    }
}
