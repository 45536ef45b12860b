//! A command that failed: what, where, why, and what to do. Owns the words' shape on stderr; decides nothing.

use std::error::Error;
use std::fmt;

/// Why a command failed, for a person.
#[derive(Debug)]
pub struct Failure {
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    remedy: Option<String>,
}

impl Failure {
    /// Something that did not work, with its place: one sentence without a full stop.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None, remedy: None }
    }

    /// The same with its cause, which is told after a colon.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let mut cause: Option<&(dyn Error + 'static)> =
            self.source.as_deref().map(|source| source as &(dyn Error + 'static));
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        match &self.remedy {
            Some(remedy) => write!(f, "\n  help: {remedy}"),
            None => Ok(()),
        }
    }
}

// The chain is told by `Display`, once, because this is where it ends.
impl Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_where_why_and_what_to_do() {
        let inner = Failure::new("disk full").because(std::io::Error::other("quota"));
        let failure = Failure::new("cannot write a.pem").because(inner).remedy("make room");
        assert_eq!(failure.to_string(), "cannot write a.pem: disk full: quota\n  help: make room");
    }
}
