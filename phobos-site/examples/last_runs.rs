//! When each job ran last, and how it went: the history as another tool reads it.
//!
//!     cargo run --example last_runs -- /var/lib/phobos/history.jsonl

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use phobos_site::history::{History, Run};

#[expect(clippy::print_stdout, reason = "the table is the result")]
fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os().nth(1).ok_or("usage: last_runs FILE")?;
    let runs = History::new(Path::new(&file)).read()?;
    let mut last: BTreeMap<(&str, &str), &Run> = BTreeMap::new();
    for run in &runs {
        last.insert((&run.job, &run.object), run);
    }
    for ((job, object), run) in last {
        println!("{job} {object} {} exit {} {}", run.end.format("%F %T"), run.exit, run.error);
    }
    println!("{} runs", runs.len());
    Ok(())
}
