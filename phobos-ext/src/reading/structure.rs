//! What a repository says of itself: whether its segments are all there, and which are to blame where they are not.

use std::path::Path;

use phobos_core::borg::descent::{Finding, soundness};
use phobos_core::borg::segment::Checker;
use phobos_core::borg::state::{State, path_of};
use phobos_core::error::Chain;
use phobos_core::fs::Dir;

use super::{Go, Wanted};
use crate::proof::Bare;

impl Go<'_, '_, '_> {
    /// What the repository `repo` says of itself, where nothing contradicts it; else the segments that do are told.
    pub(super) fn state(&mut self, repo: &Dir) -> Option<State> {
        let state = match State::read(repo) {
            Ok(state) => state,
            Err(error) => {
                self.damaged(self.reader.inner, Chain(&error).to_string());
                return None;
            }
        };
        let findings = soundness(&state);
        for finding in &findings {
            self.blame(&state, finding);
        }
        findings.is_empty().then_some(state)
    }

    /// Tells what a finding comes from.
    fn blame(&mut self, state: &State, finding: &Finding) {
        let config = Path::new("config");
        match finding {
            // Borg deletes what it has compacted before it notes that, and makes it good itself when it writes again.
            Finding::Unfinished { .. } => {}
            Finding::KeyDamaged => {
                self.damaged(&self.reader.inner.join(config), "what it has as the key is none".to_owned());
            }
            Finding::Missing { segments } => self.blame_segments(state, segments.numbers(), "it is missing"),
            Finding::CutOff { segments } => {
                self.blame_segments(state, segments.numbers(), "it ends before the objects that the index finds in it");
            }
            Finding::LostTransaction { transaction } => {
                let why = "the last transaction ended in it, and it does not end with a commit";
                self.blame_segments(state, &[*transaction], why);
            }
            other => {
                let before = self.reading.count();
                if let Some(last) = state.noted.or_else(|| state.segments.keys().last().copied()) {
                    self.blame_segments(state, &[last], "no transaction in the repository is complete");
                }
                if self.reading.count() == before {
                    self.damaged(self.reader.inner, other.to_string());
                }
            }
        }
    }

    /// Tells that these segments are damaged: by what they are themselves, or else `why`.
    fn blame_segments(&mut self, state: &State, segments: &[u32], why: &str) {
        for segment in segments {
            let path = self.reader.inner.join(path_of(*segment, state.config.segments_per_dir));
            if !state.segments.contains_key(segment) {
                self.damaged(&path, "it is missing".to_owned());
            } else if self.file(&path, Wanted::Own(Box::new(Bare(Checker::new()))), None) == Some(true) {
                self.damaged(&path, why.to_owned());
            }
        }
    }
}
