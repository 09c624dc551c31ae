//! A note to root: handed to `phobos-mail note`, which sends it or keeps it until it can be sent.

use std::path::Path;

use phobos_core::exec::{Exec, ExecError, Invocation, Status};

use crate::exit::Exit;
use crate::sister;

/// The call that hands over a note; the caller says what of its environment `phobos-mail` gets, and how long it may take.
pub fn call(config: Option<&Path>, subject: &str, text: String) -> Invocation {
    sister::call("phobos-mail", config).args(["note", "--", subject]).stdin(text.into_bytes())
}

/// Hands a note over; one that is kept for later is sent, too.
///
/// # Errors
///
/// When `phobos-mail` neither sends nor keeps it.
pub fn hand_over(exec: &dyn Exec, call: &Invocation) -> Result<(), ExecError> {
    let kept = Status::Code(i32::from(Exit::Busy.code()));
    match exec.run(call) {
        Err(ExecError::Failed { status, stderr, .. }) if status == kept => {
            log::info!("{}", stderr.lines().last().unwrap_or("the mail waits"));
            Ok(())
        }
        other => other.map(drop),
    }
}
