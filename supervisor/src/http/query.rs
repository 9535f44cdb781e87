//! The query of a request: known parameters, each at most once unless it may repeat. What is not known is refused, so
//! that a misspelled filter never returns everything.

use std::borrow::Cow;
use std::fmt::Display;

use url::form_urlencoded;
use void_api::{Problem, ProblemCode, clip};

/// A query's parameters.
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// Refuses a value of the query.
pub(super) fn invalid(detail: impl Display) -> Problem {
    Problem::new(ProblemCode::InvalidQuery, detail.to_string())
}

/// Refuses a query where there is none.
pub(super) fn none(query: Option<&str>) -> Result<(), Problem> {
    Query::read(query, &[], &[]).map(|_| ())
}

impl<'a> Query<'a> {
    /// Reads a query that may have the parameters in `once`, and any number of those in `often`.
    pub(super) fn read(query: Option<&'a str>, once: &[&str], often: &[&str]) -> Result<Query<'a>, Problem> {
        let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(Query(Vec::new())) };
        let mut found: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let is = |known: &&str| **known == *name;
            if once.iter().any(is) {
                if found.iter().any(|(earlier, _)| *earlier == name) {
                    return Err(invalid(format_args!("the parameter {name} stands twice; give it once")));
                }
            } else if !often.iter().any(is) {
                return Err(invalid(Unknown { name: &name, once, often }));
            }
            found.push((name, value));
        }
        Ok(Query(found))
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of a parameter that may repeat.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_ref())
    }

    /// The value of a parameter, read as what it must be.
    pub(super) fn parse<T>(
        &self,
        name: &str,
        accepted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        self.get(name)
            .map(|text| {
                read(text).ok_or_else(|| {
                    invalid(format_args!("the parameter {name} is \"{}\"; give {accepted}", clip(text)))
                })
            })
            .transpose()
    }
}

struct Unknown<'a> {
    name: &'a str,
    once: &'a [&'a str],
    often: &'a [&'a str],
}

impl Display for Unknown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the parameter \"{}\" is unknown here; ", clip(self.name))?;
        let known: Vec<&str> = self.once.iter().chain(self.often).copied().collect();
        if known.is_empty() {
            f.write_str("leave the query away")
        } else {
            write!(f, "known are {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(query: &str) -> Problem {
        Query::read(Some(query), &["wait"], &["label"]).err().unwrap()
    }

    #[test]
    fn known_parameters_are_read() {
        let query = Query::read(Some("label=a%3Ab&wait=5&label=c:d+e"), &["wait"], &["label"]).unwrap();
        assert_eq!(query.get("wait"), Some("5"));
        assert_eq!(query.all("label").collect::<Vec<_>>(), ["a:b", "c:d e"]);
        assert_eq!(query.parse("wait", "a number", |text| text.parse::<u8>().ok()).unwrap(), Some(5));
        assert!(query.parse("wait", "a word", |_| None::<u8>).unwrap_err().detail.contains("a word"));
        for none in [None, Some("")] {
            assert_eq!(Query::read(none, &[], &[]).unwrap().get("wait"), None);
        }
    }

    #[test]
    fn others_are_refused_by_name() {
        assert!(refusal("wiat=5").detail.contains("wiat"));
        assert!(refusal("wait=5&wait=6").detail.contains("twice"));
        assert!(refusal("=").detail.contains("unknown"));
        assert!(refusal(&format!("{}=1", "x".repeat(10_000))).detail.len() < 300);
        assert_eq!(refusal("a=%ff%00").status, 400);
    }
}
