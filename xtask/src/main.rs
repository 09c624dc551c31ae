//! The project's chores, one module each: `cargo xtask CHORE`.

fn main() {}
