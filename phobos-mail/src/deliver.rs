//! A delivery: everything that waits, oldest first, within a limit of time that holds whatever the server does.

use std::ffi::OsString;
use std::time::Duration;

use phobos_core::exec::System;
use phobos_site::mail::{Settings, Transport};

use crate::bounded::within;
use crate::letter::{Further, Letter};
use crate::spool::{Claim, Spool};
use crate::text;
use crate::transport::{Deadline, Failure, Sender};

/// How much later than its deadline a delivery is given up: a server that sends a byte now and then gets no further.
const OVERTIME: Duration = Duration::from_secs(3);

/// How long after an attempt to send a letter that nobody keeps the next one follows.
const RETRY: Duration = Duration::from_secs(2);

/// A letter that this run has written.
#[derive(Debug)]
pub(crate) enum Own {
    /// It is in the spool.
    Kept(Claim),
    /// There is no spool, or it did not take the letter: it is tried until it is sent, but no longer than this.
    Loose(Letter, Duration),
    /// It is a test: tried once, and nothing is lost with it.
    Test(Letter),
}

/// What a delivery came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How many letters were sent, and which way the last one left.
    pub(crate) sent: u64,
    pub(crate) way: Option<String>,
    /// How many letters are still waiting, as far as this run saw them.
    pub(crate) left: u64,
    /// How many letters were set aside, which no server will take.
    pub(crate) set_aside: u64,
    /// Whether a letter is lost that the spool did not take.
    pub(crate) lost: bool,
    /// Why letters were not sent.
    pub(crate) why: Option<String>,
}

/// Which of the letters that wait are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those whose time has come.
    Due,
    /// All of them.
    All,
}

/// Sends what waits in `spools`, and `own`, which this run has written, with it, until all is sent or `deadline` has come.
pub(crate) fn all(spools: Vec<Spool>, own: Vec<Own>, which: Which, settings: Settings, deadline: Deadline) -> Outcome {
    let loose = own.iter().any(|own| matches!(own, Own::Loose(..)));
    let limit = deadline.left(Duration::MAX).saturating_add(OVERTIME);
    let work = move || {
        let exec = System::default();
        let sender = Sender::new(&exec, &settings, deadline);
        Delivery { sender, deadline, which, outcome: Outcome::default() }.run(&spools, own)
    };
    within(limit, work).unwrap_or_else(|| Outcome {
        left: 1,
        lost: loose,
        why: Some("the mail server takes too long".to_owned()),
        ..Outcome::default()
    })
}

/// Sends what is due in `spools`, and `own` with it, through `sendmail` alone, which the user and group `caller` call.
pub(crate) fn by_sendmail(
    spools: Vec<Spool>,
    own: Vec<Own>,
    settings: Settings,
    deadline: Deadline,
    caller: (u32, u32),
) -> Outcome {
    let limit = deadline.left(Duration::MAX).saturating_add(OVERTIME);
    let work = move || {
        let (exec, mut settings) = (System::default(), settings);
        settings.transport = Transport::Sendmail;
        let sender = Sender::new(&exec, &settings, deadline).called_by(caller);
        Delivery { sender, deadline, which: Which::Due, outcome: Outcome::default() }.run(&spools, own)
    };
    within(limit, work).unwrap_or_else(|| Outcome {
        left: 1,
        why: Some("sendmail takes too long".to_owned()),
        ..Outcome::default()
    })
}

/// Sends `letter` alone, a test, which nobody keeps.
pub(crate) fn one(letter: Letter, settings: Settings, deadline: Deadline) -> Outcome {
    all(Vec::new(), vec![Own::Test(letter)], Which::Due, settings, deadline)
}

struct Delivery<'a> {
    sender: Sender<'a>,
    deadline: Deadline,
    which: Which,
    outcome: Outcome,
}

/// Whether to go on after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

impl Delivery<'_> {
    fn run(mut self, spools: &[Spool], mut own: Vec<Own>) -> Outcome {
        let mut next = Next::GoOn;
        for (spool, name) in spools.iter().flat_map(|spool| names(spool).into_iter().map(move |name| (spool, name))) {
            let at = own.iter().position(|own| matches!(own, Own::Kept(claim) if claim.is(spool, &name)));
            if next == Next::Stop || self.deadline.is_over() {
                next = Next::Stop;
                self.outcome.left += u64::from(at.is_none());
            } else if let Some(at) = at {
                next = self.send_own(own.remove(at));
            } else if let Some(claim) = spool.claim_or_warn(&name) {
                next = self.send_waiting(claim);
            }
        }
        for own in own {
            match next {
                Next::GoOn => next = self.send_own(own),
                Next::Stop => self.leave(&own),
            }
        }
        self.outcome
    }

    /// Sends a letter that a run before this one could not send, if it is time to try it again.
    fn send_waiting(&mut self, claim: Claim) -> Next {
        if self.which == Which::All || claim.letter.is_due(chrono::Local::now().timestamp()) {
            return self.send_kept(claim, true);
        }
        self.outcome.left += 1;
        let reason = claim.letter.reason.clone().unwrap_or_default();
        let at = text::stamp(text::local(claim.letter.not_before));
        self.outcome
            .why
            .get_or_insert_with(|| format!("the next attempt is not before {at}: {}", text::line(&reason, 500)));
        Next::GoOn
    }

    fn send_own(&mut self, own: Own) -> Next {
        match own {
            Own::Kept(claim) => self.send_kept(claim, false),
            Own::Loose(letter, patience) => self.send_loose(&letter, Deadline::after(patience)),
            Own::Test(letter) => match self.sender.send(&letter, None) {
                Ok(way) => self.sent(way),
                Err(failure) => {
                    self.outcome.why = Some(text::line(&failure.to_string(), 1000));
                    Next::Stop
                }
            },
        }
    }

    /// Sends a letter that nobody keeps: what is not sent now is lost, and a mail server may just be starting.
    fn send_loose(&mut self, letter: &Letter, patience: Deadline) -> Next {
        loop {
            match self.sender.send(letter, None) {
                Ok(way) => return self.sent(way),
                Err(failure) if patience.is_over() || self.deadline.is_over() || failure.is_final() => {
                    self.outcome.lost = true;
                    let first = letter.body.lines().next().unwrap_or_default();
                    log::error!("this is all that is left of a mail: {}", text::line(first, 1000));
                    return self.failed(letter, &failure);
                }
                Err(failure) => log::debug!("trying again: {failure}"),
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Sends a letter of the spool; one that a run before this one could not send says how late it is.
    fn send_kept(&mut self, mut claim: Claim, is_late: bool) -> Next {
        let now = chrono::Local::now().timestamp();
        let waited = u64::try_from(now.saturating_sub(claim.letter.written)).unwrap_or_default();
        let late = is_late.then(|| Duration::from_secs(waited));
        let failure = match self.sender.send(&claim.letter, late) {
            Ok(way) => {
                if let Err(error) = claim.done() {
                    log::warn!("a letter was sent, and will be once more: {error:#}");
                }
                return self.sent(way);
            }
            Err(failure) => failure,
        };
        let next = self.failed(&claim.letter, &failure);
        let why = text::line(&failure.to_string(), 500);
        let further = match failure {
            Failure::NoWay(_) => None,
            Failure::Later(_) => Some(claim.letter.was_put_off(now, &why)),
            Failure::Unanswered(_) => Some(claim.letter.was_unanswered(now, &why)),
            Failure::Never(_) => Some(Further::SetAside),
        };
        let noted = match further {
            None => Ok(()),
            Some(Further::Try) => claim.save(),
            Some(Further::SetAside) => match claim.set_aside(&why) {
                Ok(()) => {
                    self.outcome.set_aside += 1;
                    return next;
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = noted {
            log::warn!("an attempt to send a letter is not written down: {error:#}");
        }
        self.outcome.left += 1;
        next
    }

    fn sent(&mut self, way: String) -> Next {
        self.outcome.sent += 1;
        self.outcome.way = Some(way);
        Next::GoOn
    }

    fn failed(&mut self, letter: &Letter, failure: &Failure) -> Next {
        let why = text::line(&failure.to_string(), 500);
        log::warn!("cannot send \"{}\": {why}", letter.subject);
        self.outcome.why = Some(why);
        match failure {
            Failure::NoWay(_) => Next::Stop,
            // The next letter may be one that the server takes.
            Failure::Later(_) | Failure::Never(_) | Failure::Unanswered(_) => Next::GoOn,
        }
    }

    /// Takes note of a letter of this run that was not even tried: the ones before it found no way out.
    fn leave(&mut self, own: &Own) {
        match own {
            Own::Kept(_) => self.outcome.left += 1,
            Own::Loose(..) => self.outcome.lost = true,
            Own::Test(_) => {}
        }
        self.outcome.why.get_or_insert_with(|| "the time was up".to_owned());
    }
}

fn names(spool: &Spool) -> Vec<OsString> {
    spool.list().unwrap_or_else(|error| {
        log::warn!("{error:#}");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter;
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Instant;

    #[test]
    fn a_server_that_gives_a_byte_now_and_then_is_given_up() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut settings = Settings::default();
        settings.transport = format!("smtp://127.0.0.1:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"2").is_ok() {
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let began = Instant::now();
        let outcome = one(letter::test(), settings, Deadline::after(Duration::from_secs(1)));
        assert!(outcome.sent == 0, "{outcome:?}");
        assert!(outcome.why.as_deref().is_some_and(|why| why.contains("no answer within ")), "{outcome:?}");
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn work_that_takes_too_long_comes_to_nothing() {
        assert_eq!(within(Duration::from_secs(10), || 1), Some(1));
        assert_eq!(within(Duration::from_millis(10), || std::thread::sleep(Duration::from_secs(60))), None);
    }
}
