//! Asking before something is deleted.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::exit_code::{Code, Error};

/// Fails without a terminal, where `--yes` is needed.
pub(super) fn needs_terminal(doing: &str) -> Result<(), Error> {
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        return Ok(());
    }
    Err(Error::new(Code::Usage, format!("{doing} needs --yes where nobody can be asked")).hint("--yes does not ask"))
}

/// Asks on the terminal; anything but yes is no.
pub(super) fn yes(question: &str) -> Result<bool, Error> {
    let unheard = |error: io::Error| Error::new(Code::Internal, format!("cannot ask: {error}"));
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).map_err(unheard)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(unheard)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
