//! How full a mounted file system is.

use std::io;
use std::path::Path;

/// How full a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in use, those that are still to be written included.
    pub used: u64,
    /// Bytes that root may still write.
    pub free: u64,
    /// Bytes that everybody else may still write.
    pub available: u64,
}

/// How full the file system at `target` is.
///
/// # Errors
///
/// When the file system does not say so.
pub fn usage(target: &Path) -> io::Result<Usage> {
    let all = rustix::fs::statvfs(target)?;
    let bytes = |blocks: u64| blocks.saturating_mul(all.f_frsize);
    let used = all.f_blocks.saturating_sub(all.f_bfree);
    Ok(Usage { used: bytes(used), free: bytes(all.f_bfree), available: bytes(all.f_bavail) })
}
