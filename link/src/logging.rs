//! Sets up the process's log: to stderr, as text or JSON lines, by level. Says nothing itself.

use std::io::IsTerminal;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that sets the levels, a level and exceptions by module, such as `debug` or
/// `info,firmware=trace`..
pub const LEVEL_VARIABLE: &str = "ROADSTEAD_LOG";
/// The variable that chooses the form: `text` (default) or `json`.
pub const FORM_VARIABLE: &str = "ROADSTEAD_LOG_FORM";

// The transport's own warnings repeat what we say better: a peer that went away.
const DEFAULT_LEVELS: &str = "info,quinn=error,quinn_proto=error,quinn_udp=error";

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Form {
    /// The form that [`FORM_VARIABLE`] asks for.
    pub fn from_environment() -> Self {
        match std::env::var(FORM_VARIABLE) {
            Ok(form) if form == "json" => Self::Json,
            Ok(_) | Err(_) => Self::Text,
        }
    }
}

/// Starts logging. A second call in one process changes nothing.
pub fn start(form: Form) {
    let asked = std::env::var(LEVEL_VARIABLE)
        .ok()
        .and_then(|levels| levels.parse::<Targets>().ok());
    let levels = asked.unwrap_or_else(|| DEFAULT_LEVELS.parse().expect("the default levels are well formed"));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // The only failure is that a log was set up before: that one stays.
    let _ = match form {
        Form::Text => tracing_subscriber::registry().with(lines.with_filter(levels)).try_init(),
        Form::Json => tracing_subscriber::registry().with(lines.json().with_filter(levels)).try_init(),
    };
}

/// An error and all its causes in one line, for the edge where it is logged.
pub fn whole_story(error: &dyn std::error::Error) -> String {
    let mut story = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        story.push_str(": ");
        story.push_str(&error.to_string());
        cause = error.source();
    }
    story
}
