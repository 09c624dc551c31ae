//! Jobs that were killed and could say nothing: the next job that begins tells history and light of them.

use chrono::{DateTime, Utc};
use phobos_core::error::Chain;

use super::{Frame, Spec, Visibility};
use crate::history::{Begun, Running};
use crate::led::{self, State};

impl Frame<'_> {
    /// Tells of the jobs that were killed.
    pub(super) fn tell_of_the_killed(&self) {
        let killed = self.history.settle().unwrap_or_else(|error| {
            log::warn!("{}", Chain(&error));
            Vec::new()
        });
        for killed in killed {
            let of = [killed.run.job.as_str(), &killed.run.object].join(" ");
            log::warn!("a run of {} was {}", of.trim_end(), killed.run.error);
            if killed.is_on_light {
                // The board has found it dead already, and somebody may have acknowledged that.
                if let Err(error) = led::show(self.exec, &self.board) {
                    log::warn!("cannot take {} off the light: {}", killed.light, Chain(&error));
                }
            } else {
                led::tell(self.exec, &self.board, &killed.light, State::Failed, &killed.run.error);
            }
        }
    }

    /// Notes that a job is under way, if it is one that the history tells of.
    pub(super) fn note(&self, spec: &Spec<'_>, start: DateTime<Utc>) -> Option<Running> {
        if spec.visibility == Visibility::Nothing {
            return None;
        }
        let is_on_light = spec.visibility == Visibility::All;
        let begun = Begun { job: spec.name, object: spec.object, light: &spec.light, is_on_light, start };
        self.history.begin(&begun).inspect_err(|error| log::warn!("{}", Chain(error))).ok()
    }
}
