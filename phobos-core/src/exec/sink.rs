//! Where a child's output goes: it is captured, listened to, or cut into lines for an observer.

use super::Observer;

/// The longest line that is handed over whole, in bytes; a longer one comes in pieces. A line of journalctl has a message of
/// a megabyte in it.
pub(super) const LONGEST_LINE: usize = 2 << 20;

/// The most standard output that is kept, in bytes.
const MOST_OUTPUT: usize = 64 * 1024 * 1024;

/// Takes a child's output.
pub(super) trait Sink {
    fn out(&mut self, bytes: &[u8]);
    fn err(&mut self, bytes: &[u8]);
    fn tick(&mut self) -> Result<(), String>;
    /// Whether the sink has seen what it waits for; the child then stays in the background.
    fn is_content(&self) -> bool;
}

/// Keeps all of standard output, up to a limit far above what any captured program writes.
pub(super) struct Capture<'a>(pub(super) &'a mut Vec<u8>);

impl Sink for Capture<'_> {
    fn out(&mut self, bytes: &[u8]) {
        let room = MOST_OUTPUT.saturating_sub(self.0.len());
        self.0.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
    fn err(&mut self, _bytes: &[u8]) {}
    fn tick(&mut self) -> Result<(), String> {
        if self.0.len() < MOST_OUTPUT { Ok(()) } else { Err("it writes without an end".to_owned()) }
    }
    fn is_content(&self) -> bool {
        false
    }
}

/// Passes standard output to a closure, which returns true once it has seen enough.
pub(super) struct Listener<'a> {
    pub(super) heard: &'a mut dyn FnMut(&[u8]) -> bool,
    pub(super) content: bool,
}

impl Sink for Listener<'_> {
    fn out(&mut self, bytes: &[u8]) {
        self.content = self.content || (self.heard)(bytes);
    }
    fn err(&mut self, _bytes: &[u8]) {}
    fn tick(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn is_content(&self) -> bool {
        self.content
    }
}

/// Cuts output into lines for an observer, and looks for the line `ready`.
pub(super) struct Lines<'a> {
    observer: &'a mut dyn Observer,
    ready: Option<&'a str>,
    seen: bool,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(observer: &'a mut dyn Observer, ready: Option<&'a str>) -> Self {
        Self { observer, ready, seen: false, out: Vec::new(), err: Vec::new() }
    }

    fn out_line(&mut self, line: &str) {
        if self.ready == Some(line) {
            self.seen = true;
        } else {
            self.observer.out(line);
        }
    }

    /// Hands over what came after the last line end.
    pub(super) fn finish(&mut self) {
        self.out(b"\n");
        self.err(b"\n");
    }
}

impl Sink for Lines<'_> {
    fn out(&mut self, bytes: &[u8]) {
        for line in cut(&mut self.out, bytes) {
            self.out_line(&line);
        }
    }

    fn err(&mut self, bytes: &[u8]) {
        for line in cut(&mut self.err, bytes) {
            self.observer.err(&line);
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        self.observer.tick()
    }

    fn is_content(&self) -> bool {
        self.seen
    }
}

/// Appends `bytes` to `rest` and removes the complete, non-empty lines from it. A line that is too long comes in pieces.
pub(super) fn cut(rest: &mut Vec<u8>, bytes: &[u8]) -> Vec<String> {
    // Only what is new is searched: what is left of earlier has no line end.
    let end = bytes.iter().rposition(|byte| matches!(byte, b'\n' | b'\r'));
    let end = end.map(|end| rest.len() + end + 1);
    rest.extend_from_slice(bytes);
    let end = end.or_else(|| (rest.len() > LONGEST_LINE).then_some(rest.len()));
    let whole: Vec<u8> = rest.drain(..end.unwrap_or(0)).collect();
    whole
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .filter(|line| !line.is_empty())
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect()
}
