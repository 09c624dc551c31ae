//! A call as duct and the kernel take it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;

use super::{ExecError, Invocation, Lifetime, find};
use crate::notify;

/// Becomes the program; returns only if that fails.
pub(super) fn replace(invocation: &Invocation) -> ExecError {
    let Some(program) = find(&invocation.program) else {
        return ExecError::Missing { program: invocation.program.display().to_string() };
    };
    #[expect(clippy::disallowed_methods, reason = "the one place that starts programs")]
    let mut command = std::process::Command::new(program);
    if invocation.only_env.is_some() {
        command.env_clear();
    }
    let source = command.arg0(&invocation.program).args(&invocation.args).envs(variables(invocation)).exec();
    ExecError::Start { invocation: invocation.call(), source }
}

/// The program with its arguments and variables, and nothing else changed.
pub(super) fn bare(invocation: &Invocation, program: &Path) -> duct::Expression {
    with_variables(program_of(invocation, program, "TERM"), invocation)
}

/// The variables that are set for the call, those kept of this process's first.
fn variables(invocation: &Invocation) -> Vec<(OsString, OsString)> {
    let kept = invocation.only_env.unwrap_or_default().iter();
    let kept = kept.filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    kept.chain(invocation.env.iter().cloned()).collect()
}

fn with_variables(expression: duct::Expression, invocation: &Invocation) -> duct::Expression {
    let variables = variables(invocation);
    if invocation.only_env.is_some() {
        return expression.full_env(variables);
    }
    variables.into_iter().fold(expression, |expression, (name, value)| expression.env(name, value))
}

/// The program with its arguments; a bound one gets `signal` when this process dies.
fn program_of(invocation: &Invocation, program: &Path, signal: &str) -> duct::Expression {
    // A program in front binds itself: it may have to become another user first, with which the kernel forgets it.
    let bound = invocation.lifetime == Lifetime::Bound && invocation.through.is_empty();
    let setpriv = bound.then(|| find("setpriv".as_ref())).flatten();
    let mut line: Vec<OsString> = Vec::new();
    if let Some(setpriv) = setpriv {
        line.extend([setpriv.into(), "--pdeathsig".into(), signal.into(), "--".into()]);
    }
    if !invocation.through.is_empty() {
        line.extend(invocation.through.iter().cloned().chain(["--".into()]));
    }
    line.push(program.into());
    line.extend(invocation.args.iter().cloned());
    let first = line.remove(0);
    #[expect(clippy::disallowed_methods, reason = "the one place that starts programs")]
    duct::cmd(first, line)
}

/// The call as duct takes it.
pub(super) fn expression(invocation: &Invocation, program: &Path) -> duct::Expression {
    // The innermost counts: whatever the call sets, a child does not speak for this process.
    let expression = program_of(invocation, program, "KILL").env_remove(notify::VARIABLE);
    let expression = with_variables(expression.env("LC_ALL", "C.UTF-8"), invocation);
    if invocation.lifetime == Lifetime::Normal {
        return expression;
    }
    expression.before_spawn(|command| {
        command.process_group(0);
        Ok(())
    })
}
