//! The model as metrics for Prometheus, in the text format that node-exporter's textfile collector reads; pure.

use std::fmt::Write;

use chrono::{DateTime, Utc};

use crate::model::{Job, Model, Severity};

/// The metrics of one name.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    help: &'static str,
    is_begun: bool,
}

impl<'a> Family<'a> {
    fn new(text: &'a mut String, name: &'static str, help: &'static str) -> Self {
        Self { text, name, help, is_begun: false }
    }

    /// Adds a value, if there is one; a name without any is left out.
    fn add(&mut self, labels: &[(&str, &str)], value: Option<i128>) {
        let Some(value) = value else { return };
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let head = if self.is_begun {
            String::new()
        } else {
            format!("# HELP {0} {1}\n# TYPE {0} gauge\n", self.name, self.help)
        };
        self.is_begun = true;
        // Writing to a string cannot fail.
        if writeln!(self.text, "{head}{}{labels} {value}", self.name).is_err() {
            log::debug!("cannot write {}", self.name);
        }
    }
}

/// A label's value: what was read from outside has no control characters any more.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn time(time: DateTime<Utc>) -> i128 {
    i128::from(time.timestamp())
}

/// All metrics.
pub(crate) fn draw(model: &Model) -> String {
    let mut text = String::new();
    jobs(&mut text, model);
    spaces(&mut text, model);
    drives(&mut text, model);
    let text = &mut text;
    if let Some(room) = model.room {
        Family::new(text, "phobos_backup_disk_used_bytes", "What is in use on the backup disk.")
            .add(&[], Some(room.used.into()));
        Family::new(text, "phobos_backup_disk_free_bytes", "What is free on the backup disk.")
            .add(&[], Some(room.free.into()));
    }
    if let Some(mail) = &model.mail {
        let count = |count: usize| i128::try_from(count).ok();
        Family::new(text, "phobos_mail_waiting", "Messages that wait to be sent.").add(&[], count(mail.waiting));
        Family::new(text, "phobos_mail_set_aside", "Messages that no server would take.")
            .add(&[], count(mail.set_aside));
    }
    let mut findings = Family::new(text, "phobos_findings", "What is not as it should be, by how bad it is.");
    for (severity, word) in [(Severity::Attention, "attention"), (Severity::Failed, "failed")] {
        let count = model.findings.iter().filter(|finding| finding.severity == severity).count();
        findings.add(&[("severity", word)], i128::try_from(count).ok());
    }
    let mut light = Family::new(text, "phobos_light_state", "1 for the state that the light shows.");
    for state in phobos_site::led::State::ALL {
        light.add(&[("state", state.word())], Some(i128::from(state == model.light.state)));
    }
    std::mem::take(text)
}

fn jobs(text: &mut String, model: &Model) {
    let mut family = |name, help, value: &dyn Fn(&Job) -> Option<i128>| {
        let mut family = Family::new(text, name, help);
        for job in &model.jobs {
            let (name, object) = (crate::model::clean(&job.job), crate::model::clean(&job.object));
            family.add(&[("job_name", name.as_str()), ("object", object.as_str())], value(job));
        }
    };
    let last = |job: &Job| job.last.clone();
    family("phobos_job_last_success_timestamp_seconds", "When the last good run ended.", &|job| {
        job.last_good.map(time)
    });
    family("phobos_job_last_run_timestamp_seconds", "When the last run ended, good or not.", &|job| {
        last(job).map(|run| time(run.end))
    });
    family("phobos_job_last_exit_code", "The exit code of the last run.", &|job| last(job).map(|run| run.exit.into()));
    family("phobos_job_last_duration_seconds", "How long the last run took, waits included.", &|job| {
        last(job).map(|run| run.end.signed_duration_since(run.start).num_seconds().max(0).into())
    });
    family("phobos_job_last_waited_seconds", "How long the last run waited for others.", &|job| {
        last(job).map(|run| run.waited_secs.into())
    });
    family("phobos_job_last_copied_bytes", "What the last run copied.", &|job| {
        last(job).and_then(|run| run.bytes).map(Into::into)
    });
    family("phobos_job_usual_duration_seconds", "The median length of the last good runs, waits left out.", &|job| {
        job.usual.as_ref().map(|usual| usual.seconds.into())
    });
    family("phobos_job_next_run_timestamp_seconds", "When a timer starts it next.", &|job| job.next.map(time));
    family("phobos_job_late", "1 if the last good run is longer ago than it should be.", &|job| Some(job.late.into()));
    family("phobos_job_running", "1 if it runs now.", &|job| {
        let is_running = model.running.iter().any(|run| run.name == job.name && run.kind == job.kind);
        Some(is_running.into())
    });
}

fn spaces(text: &mut String, model: &Model) {
    let mut family = |name, help, value: &dyn Fn(&crate::model::Space) -> Option<i128>| {
        let mut family = Family::new(text, name, help);
        for (job, space) in model.jobs.iter().filter_map(|job| Some((job, job.space.as_ref()?))) {
            let host = crate::model::clean(&job.object);
            family.add(&[("host", host.as_str())], value(space));
        }
    };
    family("phobos_holding_space_bytes", "What is in a host's holding space.", &|space| space.bytes.map(Into::into));
    family("phobos_holding_space_files", "How many files are in it.", &|space| space.files.map(Into::into));
    family("phobos_holding_space_stale", "1 if it is older than it may be.", &|space| Some(space.stale.into()));
    family("phobos_holding_space_timestamp_seconds", "As of when it shows the host.", &|space| {
        space.last_success.map(time)
    });
}

fn drives(text: &mut String, model: &Model) {
    let mut family = |name, help, value: &dyn Fn(&crate::model::Drive) -> Option<i128>| {
        let mut family = Family::new(text, name, help);
        for drive in &model.drives {
            family.add(&[("drive", drive.name.as_str())], value(drive));
        }
    };
    family("phobos_drive_plugged_in", "1 if it is plugged in.", &|drive| Some(drive.plugged_in.into()));
    family("phobos_drive_overdue", "1 if it was to be brought before.", &|drive| Some(drive.overdue.into()));
    family("phobos_drive_last_mirror_timestamp_seconds", "When its last mirror was complete.", &|drive| {
        drive.mirrored.map(time)
    });
    family("phobos_drive_due_timestamp_seconds", "By when it is to be brought.", &|drive| drive.due_by.map(time));
    family("phobos_drive_full_timestamp_seconds", "When it will be full.", &|drive| drive.full_by.map(time));
    family("phobos_drive_used_bytes", "What was in use on it after its last mirror.", &|drive| {
        drive.used.map(Into::into)
    });
    family("phobos_drive_free_bytes", "What was free on it after its last mirror.", &|drive| {
        drive.free.map(Into::into)
    });
}
