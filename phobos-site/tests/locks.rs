//! Ten jobs at once, a thousand times over: none runs beside one that it would disturb, and none is left waiting.

#![cfg(test)]

use std::path::Path;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use phobos_site::lock::{LockName, Locks, Mode, Patience};

const ROUNDS: usize = 1000;

/// How long a single job may wait in a round of ten short ones before it counts as starved.
const STARVED: Duration = Duration::from_secs(60);

/// The jobs of a house: name, and what they lock, in order.
const JOBS: [(&str, &[(&str, Mode)]); 10] = [
    ("pull-luv", &[("holding", Mode::Shared), ("holding/luv", Mode::Exclusive)]),
    ("pull-nuhc", &[("holding", Mode::Shared), ("holding/nuhc", Mode::Exclusive)]),
    ("pull-chew", &[("holding", Mode::Shared), ("holding/chew", Mode::Exclusive)]),
    ("pull-luv-by-hand", &[("holding", Mode::Shared), ("holding/luv", Mode::Exclusive)]),
    ("night", &[("holding", Mode::Exclusive), ("repository", Mode::Exclusive)]),
    ("check", &[("repository", Mode::Exclusive)]),
    ("mirror-A", &[("drive/A", Mode::Exclusive), ("holding", Mode::Exclusive), ("repository", Mode::Exclusive)]),
    ("mirror-B", &[("drive/B", Mode::Exclusive), ("holding", Mode::Exclusive), ("repository", Mode::Exclusive)]),
    ("drill-A", &[("drive/A", Mode::Exclusive)]),
    ("drill-B", &[("drive/B", Mode::Exclusive)]),
];

/// Whether two jobs may run side by side: they share no lock that one of them wants alone.
fn may_overlap(a: usize, b: usize) -> bool {
    let (first, second) = (JOBS[a].1, JOBS[b].1);
    !first.iter().any(|(name, mode)| {
        second.iter().any(|(other, its)| name == other && (*mode == Mode::Exclusive || *its == Mode::Exclusive))
    })
}

/// Takes the job's locks, says that it runs, looks who else does, and ends.
fn run(locks: &Locks, job: usize, running: &Mutex<Vec<usize>>) -> Duration {
    let began = Instant::now();
    let mut patience = Patience::until(began + STARVED);
    let held: Vec<_> = JOBS[job]
        .1
        .iter()
        .map(|(name, mode)| {
            let name: LockName = name.parse().unwrap();
            locks.take(&name, *mode, JOBS[job].0, None, &mut patience).unwrap()
        })
        .collect();
    let waited = began.elapsed();
    {
        let mut running = running.lock().unwrap();
        for other in running.iter() {
            assert!(may_overlap(job, *other), "{} ran beside {}", JOBS[job].0, JOBS[*other].0);
        }
        running.push(job);
    }
    std::thread::yield_now();
    running.lock().unwrap().retain(|other| *other != job);
    drop(held);
    waited
}

#[test]
fn ten_jobs_at_once_never_disturb_each_other_and_nobody_starves() {
    let folder = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap();
    let locks = Locks::new(folder.path());
    let running = Mutex::new(Vec::new());
    let start = Barrier::new(JOBS.len());
    let longest = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..JOBS.len())
            .map(|job| {
                let (locks, running, start) = (&locks, &running, &start);
                scope.spawn(move || {
                    let waits = (0..ROUNDS).map(|_| {
                        start.wait();
                        run(locks, job, running)
                    });
                    waits.max().unwrap()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).max().unwrap()
    });
    assert!(longest < STARVED, "{longest:?}");
    println!("the longest wait of {ROUNDS} rounds was {longest:?}");
}
