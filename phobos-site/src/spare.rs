//! Descriptors that are kept for telling: a job that has used up all that it may have could not say that it failed.
//!
//! History, board and light take some at a time, and give them back.

use std::fs::File;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many are kept: to start the program that sets the light takes the most.
const COUNT: usize = 12;

/// With fewer than these a job cannot even come to its first error: its own files, those of a program that it starts, and [`COUNT`].
const LEAST: u64 = 64;

/// What is open for nothing but to be closed.
static KEPT: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Keeps as many as there are, up to what telling takes, after it has asked for [`LEAST`] where fewer are allowed.
pub fn keep() {
    if let Err(error) = ask_for_more() {
        log::debug!("no more descriptors may be open: {error}");
    }
    fill();
}

fn fill() {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    while kept.len() < COUNT {
        match File::open("/dev/null") {
            Ok(file) => kept.push(file),
            // There are no more, or no /dev: what there is has to do.
            Err(_) => break,
        }
    }
}

/// Raises the limit to [`LEAST`], which root may do unless it was taken from it, or as far as the limit of the limit allows.
fn ask_for_more() -> rustix::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= LEAST) {
        return Ok(());
    }
    let more = Rlimit { current: Some(LEAST), maximum: limit.maximum.map(|maximum| maximum.max(LEAST)) };
    setrlimit(Resource::Nofile, more)
        .or_else(|_| setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }))
}

/// While it lives, the kept descriptors are free.
#[derive(Debug)]
#[must_use = "dropping it keeps them anew"]
pub struct Spent(());

/// Lets go of what is kept, for whoever tells of a failure.
pub fn spend() -> Spent {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).clear();
    Spent(())
}

impl Drop for Spent {
    fn drop(&mut self) {
        fill();
    }
}
