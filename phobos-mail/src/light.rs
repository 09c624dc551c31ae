//! The light: what it shows goes into the mail, and whether mail can be sent is shown on it.

use phobos_core::error::Chain;
use phobos_core::exec::Exec;
use phobos_site::led::{self, Board, State};

use crate::text;

/// The job that stands for the mail.
const JOB: &str = "mail";

/// What the light shows and what each job said, one a line.
///
/// # Errors
///
/// Why the board of jobs cannot be read, on one line.
pub(crate) fn summary(board: &Board) -> Result<Vec<String>, String> {
    let jobs = board.jobs().map_err(|error| Chain(&error).to_string())?;
    let choice = led::choose(&jobs);
    let mut lines = vec![match &choice.job {
        Some(job) => format!("It shows {}, for {}.", choice.state.word(), text::line(job, 200)),
        None => "No job has posted anything.".to_owned(),
    }];
    lines.extend(jobs.iter().map(|job| {
        let since = text::stamp(job.light_since().into());
        let said = text::line(job.light_text(), 200);
        let colon = if said.is_empty() { "" } else { ": " };
        format!("{} is {} since {since}{colon}{said}", text::line(&job.name, 200), job.light().word())
    }));
    Ok(lines)
}

/// What becomes of the light itself when something is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Showing {
    /// It shows at once what is posted.
    Now,
    /// It stays as it is: beside a unit's failure it is red, by a call that no job stands behind.
    Later,
    /// It stays as it is, unless another job may have let it show that mail cannot be sent, which is over.
    IfStale,
}

/// Posts whether mail can be sent.
///
/// Only root may post; for a unit under another user, an `ExecStopPost=+` with `phobos-mail light` does it.
pub(crate) fn tell(exec: &dyn Exec, board: &Board, trouble: Option<&str>, showing: Showing) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let jobs = board.jobs().unwrap_or_else(|error| {
        log::warn!("{}", Chain(&error));
        Vec::new()
    });
    let posted = jobs.iter().find(|job| job.name == JOB);
    let (state, text) = match (trouble, posted) {
        // Again if it is posted: what was on the light before is gone by now, under the red of another failure.
        (Some(why), _) => (State::Attention, why),
        (None, Some(_)) => (State::Off, ""),
        (None, None) => return,
    };
    let is_stale = posted.is_some_and(|mail| jobs.iter().any(|job| job.name != JOB && job.since > mail.since));
    let shows = match showing {
        Showing::Now => true,
        Showing::Later => false,
        Showing::IfStale => state == State::Off && is_stale,
    };
    if shows {
        led::tell(exec, board, JOB, state, text);
    } else if let Err(error) = board.post(JOB, state, text) {
        log::warn!("{}", Chain(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phobos_core::exec::fake::Script;

    #[test]
    fn the_light_is_told_what_is_news() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::new(&folder.path().join("run"), &folder.path().join("kept"));
        assert_eq!(summary(&board).unwrap(), ["No job has posted anything."]);
        let script = Script::new().ok().ok();
        for trouble in [None, Some("no server"), None, None] {
            tell(&script, &board, trouble, Showing::Now);
            if trouble.is_some() && rustix::process::geteuid().is_root() {
                let lines = summary(&board).unwrap();
                assert_eq!(lines[0], "It shows attention, for mail.");
                assert!(lines[1].ends_with(": no server"), "{lines:?}");
            }
        }
        let news = if rustix::process::geteuid().is_root() { 2 } else { 0 };
        assert_eq!(script.calls().len(), news);
    }

    /// Waits until the clock shows another millisecond than the newest post: the board keeps no finer times.
    fn a_moment_later(board: &Board) {
        let newest = board.jobs().unwrap().into_iter().map(|job| job.since).max().unwrap();
        while chrono::Utc::now().timestamp_millis() <= newest.timestamp_millis() {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn the_red_of_a_failed_unit_stays_until_another_job_has_used_the_light() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let board = Board::new(&folder.path().join("run"), &folder.path().join("kept"));
        let script = Script::new().ok();
        tell(&script, &board, Some("no server"), Showing::Later);
        tell(&script, &board, Some("no server"), Showing::IfStale);
        tell(&script, &board, None, Showing::IfStale);
        assert!(script.calls().is_empty() && board.jobs().unwrap().is_empty());

        tell(&script, &board, Some("no server"), Showing::Later);
        a_moment_later(&board);
        board.post("ext-A", State::Ok, "").unwrap();
        tell(&script, &board, None, Showing::IfStale);
        assert_eq!(script.calls(), ["phobos-blink show"]);
        assert_eq!(summary(&board).unwrap()[0], "It shows ok, for ext-A.");

        tell(&script, &board, Some("no server"), Showing::Later);
        a_moment_later(&board);
        board.post("ext-A", State::Ok, "").unwrap();
        a_moment_later(&board);
        tell(&script, &board, Some("no server"), Showing::Later);
        tell(&script, &board, None, Showing::IfStale);
        assert_eq!(script.calls().len(), 1, "another unit has failed since");
    }
}
