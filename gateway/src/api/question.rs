//! The question part of a URL, read strictly: what is not known is refused by name instead of ignored.

use axum::http::StatusCode;
use link::http::Refused;

use crate::store::read::Cursor;

/// Rows or events in an answer where no limit is given.
const LIMIT: u32 = 100;
/// Most rows or events in one answer: at 64 KiB a payload this stays below what a browser takes.
const LIMIT_MAX: u32 = 1000;

/// The parameters of a request.
pub(crate) struct Question<'q> {
    parameters: Vec<(&'q str, &'q str)>,
}

impl<'q> Question<'q> {
    /// Reads `query`, which may hold each of the `known` parameters once.
    pub(crate) fn read(query: Option<&'q str>, known: &[&str]) -> Result<Self, Refused> {
        let mut parameters: Vec<(&str, &str)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                let right = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(wrong(format!("unknown parameter \"{name}\"; this path takes: {right}")));
            }
            if parameters.iter().any(|(given, _)| *given == name) {
                return Err(wrong(format!("parameter \"{name}\" is given twice; give it once")));
            }
            parameters.push((name, value));
        }
        Ok(Self { parameters })
    }

    /// The value of `name`, as it stands in the URL.
    pub(crate) fn value(&self, name: &str) -> Option<&'q str> {
        self.parameters
            .iter()
            .find(|(given, _)| *given == name)
            .map(|(_, value)| *value)
    }

    /// `limit`: 1 to [`LIMIT_MAX`], default [`LIMIT`].
    pub(super) fn limit(&self) -> Result<u32, Refused> {
        let Some(value) = self.value("limit") else { return Ok(LIMIT) };
        value
            .parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or_else(|| wrong(format!("parameter \"limit\" is \"{value}\"; give a number from 1 to {LIMIT_MAX}")))
    }

    /// `after`: a place as `next` of an earlier answer.
    pub(super) fn after(&self) -> Result<Option<Cursor>, Refused> {
        let Some(value) = self.value("after") else { return Ok(None) };
        let place = value
            .parse()
            .map_err(|why| wrong(format!("parameter \"after\" is \"{value}\"; {why}")))?;
        Ok(Some(place))
    }
}

fn wrong(error: String) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(query: &str) -> Result<u32, String> {
        Question::read(Some(query), &["limit", "after"])
            .and_then(|question| question.limit())
            .map_err(|refused| refused.error)
    }

    #[test]
    fn limits_hold_on_both_sides() {
        assert_eq!(limit(""), Ok(LIMIT));
        assert_eq!(limit("limit=1"), Ok(1));
        assert_eq!(limit("limit=1000&after=3-4"), Ok(1000));
        for bad in ["limit=0", "limit=1001", "limit=-1", "limit=", "limit=4294967296", "limit"] {
            assert!(limit(bad).unwrap_err().contains("1 to 1000"), "{bad}");
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert!(limit("limt=3").unwrap_err().contains("\"limt\""));
        assert!(limit("limit=3&limit=4").unwrap_err().contains("twice"));
        let after = |query| {
            Question::read(Some(query), &["after"])
                .unwrap()
                .after()
                .map_err(|refused| refused.error)
        };
        assert_eq!(after("after=3-4").unwrap().map(|place| place.to_string()), Some("3-4".to_owned()));
        for bad in ["after=3", "after=x-1", "after=3-", "after=3-18446744073709551615"] {
            assert!(after(bad).unwrap_err().contains("<block>-<sequence>"), "{bad}");
        }
    }
}
