//! What must not be seen: passwords from a terminal without echo, or from the first line of stdin where that is no terminal.

use std::io::{self, BufRead, IsTerminal, Read};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::failure::Failure;

/// Bytes of a line at most: a password and what a terminal makes of it.
const LINE_BYTES_MAX: u64 = 4096;

/// A new password: at a terminal asked for twice.
pub(super) fn new_password(account: &str) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return line();
    }
    let password = hidden(&format!("password of {account}: "))?;
    if hidden("the same once more: ")? == password {
        Ok(password)
    } else {
        Err(Failure::new("the two are not the same").remedy("nothing was changed; try again"))
    }
}

/// A line that may be seen, such as a code that is good once.
pub(super) fn shown(prompt: &str) -> Result<String, Failure> {
    eprint!("{prompt}");
    line()
}

fn hidden(prompt: &str) -> Result<String, Failure> {
    eprint!("{prompt}");
    let quiet = Quiet::begin()?;
    let line = line();
    drop(quiet);
    eprintln!();
    line
}

fn line() -> Result<String, Failure> {
    let mut text = String::new();
    let read = io::stdin().lock().take(LINE_BYTES_MAX).read_line(&mut text);
    read.map_err(|error| Failure::new("cannot read stdin").because(error))?;
    let line = text.trim_end_matches(['\n', '\r']);
    if line.is_empty() {
        return Err(Failure::new("nothing was given").remedy("give it at the terminal, or as the first line of stdin"));
    }
    Ok(line.to_owned())
}

/// The terminal does not show what is typed, until this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> Result<Self, Failure> {
        let cannot =
            |error| Failure::new("cannot keep the terminal from showing the password").because(io::Error::from(error));
        let before = tcgetattr(io::stdin()).map_err(cannot)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet).map_err(cannot)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Where it cannot be set back, `stty echo` can.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
