//! The program `phobos-manual`: writes the man pages and completions into a folder.

use anyhow::{Context, Result};
use clap::Parser;
use std::path::PathBuf;

/// Write the man pages, completions and schemas of phobos's programs
#[derive(Debug, Parser)]
#[command(name = "phobos-manual", version)]
struct Cli {
    /// The folder that gets `man`, `completions` and `schema`
    folder: PathBuf,
    /// The date that the pages carry, as YYYY-MM-DD
    #[arg(long, value_name = "DATE")]
    date: String,
    /// Write the sample configuration into this file too
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if let Some(file) = cli.sample {
        let text = phobos_manual::sample()?;
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    phobos_manual::write(&cli.folder, &cli.date)
}
