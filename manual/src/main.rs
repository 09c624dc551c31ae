//! The program `phobos-manual`: writes the man pages and completions into a folder.

use anyhow::Result;
use clap::Parser;
use std::path::PathBuf;

/// Write the man pages and completions of phobos's programs
#[derive(Debug, Parser)]
#[command(name = "phobos-manual", version)]
struct Cli {
    /// The folder that gets `man` and `completions`
    folder: PathBuf,
    /// The date that the pages carry, as YYYY-MM-DD
    #[arg(long, value_name = "DATE")]
    date: String,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    phobos_manual::write(&cli.folder, &cli.date)
}
