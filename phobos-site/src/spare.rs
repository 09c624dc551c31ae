//! Descriptors that are kept for telling: a job that has used up all that it may have could not say that it failed.
//!
//! History, board and light take some at a time, and give them back.

use std::fs::File;
use std::sync::{Mutex, PoisonError};

/// How many are kept: to start the program that sets the light takes the most.
const COUNT: usize = 12;

/// What is open for nothing but to be closed.
static KEPT: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Keeps as many as there are, up to what telling takes.
pub fn keep() {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    while kept.len() < COUNT {
        match File::open("/dev/null") {
            Ok(file) => kept.push(file),
            // There are no more, or no /dev: what there is has to do.
            Err(_) => break,
        }
    }
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
        keep();
    }
}
