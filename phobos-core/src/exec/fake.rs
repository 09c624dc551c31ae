//! A fake [`Exec`] for tests: answers calls from a script, in order, and keeps them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Conversation, Exec, ExecError, Finished, Hold, Invocation, Observer, Status};

/// One answer of a [`Script`].
#[derive(Debug, Clone)]
enum Answer {
    Done { stdout: Vec<u8> },
    Fails { status: Status, stderr: String },
}

/// Answers calls in the order in which the answers were given; a call beyond them fails.
#[derive(Debug, Default)]
pub struct Script {
    answers: Mutex<VecDeque<Answer>>,
    calls: Mutex<Vec<String>>,
}

impl Script {
    /// A script without answers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next call exits with 0 and writes nothing.
    #[must_use]
    pub fn ok(self) -> Self {
        self.says("")
    }

    /// The next call exits with 0 and writes `stdout`.
    #[must_use]
    pub fn says(self, stdout: &str) -> Self {
        self.answers_bytes(stdout.as_bytes())
    }

    /// The next call exits with 0 and writes `stdout`, which need not be text.
    #[must_use]
    pub fn answers_bytes(self, stdout: &[u8]) -> Self {
        self.then(Answer::Done { stdout: stdout.to_owned() })
    }

    /// The next call ends with exit code `code` after writing `stderr` to standard error.
    #[must_use]
    pub fn fails(self, code: i32, stderr: &str) -> Self {
        self.then(Answer::Fails { status: Status::Code(code), stderr: stderr.to_owned() })
    }

    /// The next call is killed by `signal`.
    #[must_use]
    pub fn killed(self, signal: i32) -> Self {
        self.then(Answer::Fails { status: Status::Signal(signal), stderr: String::new() })
    }

    /// The calls so far, as text.
    pub fn calls(&self) -> Vec<String> {
        locked(&self.calls).clone()
    }

    fn then(self, answer: Answer) -> Self {
        locked(&self.answers).push_back(answer);
        self
    }

    fn answer(&self, invocation: &Invocation) -> Result<Vec<u8>, ExecError> {
        locked(&self.calls).push(invocation.to_string());
        let invocation = invocation.call();
        match locked(&self.answers).pop_front() {
            Some(Answer::Done { stdout }) => Ok(stdout),
            Some(Answer::Fails { status, stderr }) => Err(ExecError::Failed { invocation, status, stderr }),
            None => Err(ExecError::Missing { program: format!("`{invocation}` in the script") }),
        }
    }
}

impl Exec for Script {
    fn run(&self, invocation: &Invocation) -> Result<Finished, ExecError> {
        self.answer(invocation).map(|stdout| Finished { stdout })
    }

    fn stream(&self, invocation: &Invocation, observer: &mut dyn Observer) -> Result<Finished, ExecError> {
        let stdout = self.answer(invocation)?;
        let stdout = String::from_utf8_lossy(&stdout);
        stdout.split(['\n', '\r']).filter(|line| !line.is_empty()).for_each(|line| observer.out(line));
        Ok(Finished::default())
    }

    fn attach(&self, invocation: &Invocation) -> Result<Status, ExecError> {
        match self.answer(invocation) {
            Ok(_) => Ok(Status::Code(0)),
            Err(ExecError::Failed { status, .. }) => Ok(status),
            Err(error) => Err(error),
        }
    }

    fn hold(
        &self,
        invocation: &Invocation,
        _ready: &str,
        _observer: &mut dyn Observer,
    ) -> Result<Box<dyn Hold>, ExecError> {
        self.answer(invocation).map(|_| Box::new(Held) as Box<dyn Hold>)
    }

    fn converse(&self, invocation: &Invocation) -> Result<Box<dyn Conversation + '_>, ExecError> {
        Ok(Box::new(Said { answer: self.answer(invocation), invocation: invocation.clone() }))
    }
}

/// What a script's [`Exec::converse`] returns.
#[derive(Debug)]
struct Said {
    answer: Result<Vec<u8>, ExecError>,
    invocation: Invocation,
}

impl Conversation for Said {
    fn listen(self: Box<Self>, heard: &mut dyn FnMut(&[u8]) -> bool) -> Result<Box<dyn Hold>, ExecError> {
        if heard(&self.answer?) {
            return Ok(Box::new(Held));
        }
        let stderr = "it ended without an answer".to_owned();
        Err(ExecError::Failed { invocation: self.invocation.call(), status: Status::Code(0), stderr })
    }
}

/// What a script's [`Exec::hold`] returns: it holds until it is released, and releases well.
#[derive(Debug)]
struct Held;

impl Hold for Held {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn is_alive(&mut self) -> bool {
        true
    }

    fn let_go(&mut self) {}

    fn release(&mut self) -> Result<(), ExecError> {
        Ok(())
    }
}

/// Locks, also where another test has panicked while it held the lock.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
