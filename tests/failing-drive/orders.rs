//! What a drive is told to do wrong, and when.

use std::fmt;

use fuser::Errno;

/// What a drive is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Flush,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done.
    Done,
    /// It ends with an error.
    Fails(Errno),
    /// It is said to be done.
    Lost,
    /// It waits.
    Held,
}

/// A line that somebody has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Count,
    Record,
    Mark,
    Reset,
    Go,
    Step,
    Well,
    Fault(Fault),
}

/// What is to become of some requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Any, if there is none.
    kind: Option<Kind>,
    /// The how manyth of them.
    number: u64,
    /// Whether all that come after that as well.
    ever: bool,
    fate: Fate,
}

/// What was counted, and what is to go wrong.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    reads: u64,
    writes: u64,
    flushes: u64,
    met: u64,
    faults: Vec<Fault>,
}

impl Order {
    /// Reads a line.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (words, ever) = match words.as_slice() {
            [words @ .., "ever"] => (words, true),
            words => (words, false),
        };
        let fault = |kind: &str, number: &str, fate| {
            let kind = match kind {
                "any" => None,
                "read" => Some(Kind::Read),
                "write" => Some(Kind::Write),
                "flush" => Some(Kind::Flush),
                _ => return None,
            };
            Some(Self::Fault(Fault { kind, number: number.parse().ok()?, ever, fate }))
        };
        match *words {
            ["count"] => Some(Self::Count),
            ["record"] => Some(Self::Record),
            ["mark"] => Some(Self::Mark),
            ["reset"] => Some(Self::Reset),
            ["go"] => Some(Self::Go),
            ["step"] => Some(Self::Step),
            ["well"] => Some(Self::Well),
            ["fail", kind, number, "EIO"] => fault(kind, number, Fate::Fails(Errno::EIO)),
            ["fail", kind, number, "ENOSPC"] => fault(kind, number, Fate::Fails(Errno::ENOSPC)),
            ["fail", kind, number, "EROFS"] => fault(kind, number, Fate::Fails(Errno::EROFS)),
            ["lose", kind, number] => fault(kind, number, Fate::Lost),
            ["hold", kind, number] => fault(kind, number, Fate::Held),
            _ => None,
        }
    }
}

impl Orders {
    /// Begins to count.
    pub(crate) fn count(&mut self) {
        (self.reads, self.writes, self.flushes, self.met) = (0, 0, 0, 0);
    }

    /// Something is to go wrong.
    pub(crate) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Nothing is held any more.
    pub(crate) fn go(&mut self) {
        self.faults.retain(|fault| fault.fate != Fate::Held);
    }

    /// Only the next request is held.
    pub(crate) fn step(&mut self) {
        self.go();
        let number = self.reads + self.writes + self.flushes + 2;
        self.add(Fault { kind: None, number, ever: false, fate: Fate::Held });
    }

    /// Nothing goes wrong any more.
    pub(crate) fn well(&mut self) {
        self.faults.clear();
    }

    /// What becomes of a request; one that is held is not counted, since it comes once more.
    pub(crate) fn meet(&mut self, kind: Kind) -> Fate {
        let number = |wanted: Option<Kind>| match wanted {
            None => self.reads + self.writes + self.flushes + 1,
            Some(Kind::Read) => self.reads + 1,
            Some(Kind::Write) => self.writes + 1,
            Some(Kind::Flush) => self.flushes + 1,
        };
        let is_meant = |fault: &&Fault| {
            let now = number(fault.kind);
            fault.kind.is_none_or(|wanted| wanted == kind)
                && (now == fault.number || (fault.ever && now > fault.number))
        };
        let fate = self.faults.iter().find(is_meant).map_or(Fate::Done, |fault| fault.fate);
        self.met += u64::from(fate != Fate::Done);
        if fate != Fate::Held {
            match kind {
                Kind::Read => self.reads += 1,
                Kind::Write => self.writes += 1,
                Kind::Flush => self.flushes += 1,
            }
        }
        fate
    }
}

impl fmt::Display for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reads, writes, flushes, met, .. } = self;
        let any = reads + writes + flushes;
        write!(f, "any {any} read {reads} write {writes} flush {flushes} met {met}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(lines: &[&str], kinds: &[Kind]) -> Vec<Fate> {
        let mut orders = Orders::default();
        for line in lines {
            let Some(Order::Fault(fault)) = Order::parse(line) else { panic!("{line}") };
            orders.add(fault);
        }
        kinds.iter().map(|kind| orders.meet(*kind)).collect()
    }

    #[test]
    fn faults_meet_the_requests_that_are_meant() {
        use Fate::{Done, Fails, Held, Lost};
        use Kind::{Flush, Read, Write};
        let kinds = [Read, Write, Write, Read, Flush];
        let eio = Fails(Errno::EIO);
        assert_eq!(fates(&["fail write 2 EIO"], &kinds), [Done, Done, eio, Done, Done]);
        assert_eq!(
            fates(&["fail any 3 ENOSPC ever"], &kinds)[1..],
            [Done, Fails(Errno::ENOSPC), Fails(Errno::ENOSPC), Fails(Errno::ENOSPC)]
        );
        assert_eq!(fates(&["lose read 2", "fail read 1 EIO"], &kinds), [eio, Done, Done, Lost, Done]);
        assert_eq!(fates(&["hold any 2"], &kinds[..3]), [Done, Held, Held], "until it goes on");
    }

    #[test]
    fn a_step_lets_one_request_pass() {
        let mut orders = Orders::default();
        let Some(Order::Fault(hold)) = Order::parse("hold any 2") else { panic!() };
        orders.add(hold);
        assert_eq!([orders.meet(Kind::Read), orders.meet(Kind::Write)], [Fate::Done, Fate::Held]);
        for _ in 0..2 {
            orders.step();
            assert_eq!([orders.meet(Kind::Write), orders.meet(Kind::Flush)], [Fate::Done, Fate::Held]);
        }
        orders.go();
        assert_eq!([orders.meet(Kind::Flush), orders.meet(Kind::Flush)], [Fate::Done, Fate::Done]);
    }

    #[test]
    fn what_is_no_order_is_none() {
        for line in
            ["", "fail", "fail write EIO", "fail write x EIO", "fail all 1 EIO", "lose write 1 2", "fail write 1 EBUSY"]
        {
            assert_eq!(Order::parse(line), None, "{line}");
        }
        assert_eq!(Order::parse(" record "), Some(Order::Record));
    }
}
