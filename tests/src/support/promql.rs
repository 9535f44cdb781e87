//! PromQL, as far as a test asks: which series an expression names. A word that is neither a series nor known to the
//! language is an error, so that no misspelled name passes.

use super::metrics::Metrics;

/// Words of the language that the dashboard and the alerts use.
const LANGUAGE: [&str; 13] = [
    "sum",
    "count",
    "rate",
    "increase",
    "changes",
    "histogram_quantile",
    "by",
    "label_values",
    "job",
    "instance",
    "and",
    "or",
    "on",
];

/// One series that an expression asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector {
    /// Its name.
    pub(crate) name: String,
    /// Label, operator and value of each matcher.
    pub(crate) matchers: Vec<(String, String, String)>,
}

/// What an expression names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// The series.
    pub(crate) selectors: Vec<Selector>,
    /// The labels that results are grouped by.
    pub(crate) groups: Vec<String>,
}

/// Finds everything that an expression names.
///
/// # Errors
/// The first word that is not understood.
pub(crate) fn named(expression: &str) -> Result<Named, String> {
    let mut named = Named::default();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first.is_ascii_alphabetic() || first == '_' {
            let (word, after) = split_word(rest);
            rest = after.trim_start();
            if word == "by" {
                let (labels, after) = between(rest, '(', ')')?;
                named.groups.extend(labels.split(',').map(|label| label.trim().to_owned()));
                rest = after;
            } else if ["void_wasm_", "process_"].iter().any(|start| word.starts_with(start)) || word == "up" {
                let mut matchers = Vec::new();
                if rest.starts_with('{') {
                    let (inside, after) = between(rest, '{', '}')?;
                    matchers = inside.split(',').map(matcher).collect::<Result<_, _>>()?;
                    rest = after;
                }
                named.selectors.push(Selector { name: word.to_owned(), matchers });
            } else if !LANGUAGE.contains(&word) {
                return Err(format!("{word} is unknown in {expression}"));
            }
        } else if first == '[' {
            rest = between(rest, '[', ']')?.1;
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    Ok(named)
}

fn split_word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len()))
}

fn between(text: &str, open: char, close: char) -> Result<(&str, &str), String> {
    text.strip_prefix(open)
        .and_then(|rest| rest.split_once(close))
        .ok_or_else(|| format!("{open} and {close} are missing in {text}"))
}

fn matcher(text: &str) -> Result<(String, String, String), String> {
    let (label, rest) = split_word(text.trim());
    let (operator, value) = rest.split_once('"').ok_or_else(|| format!("{text} is no matcher"))?;
    let value = value.strip_suffix('"').ok_or_else(|| format!("{text} is not closed"))?;
    Ok((label.to_owned(), operator.to_owned(), value.to_owned()))
}

/// Everything in `expression` that a server with these metrics does not have.
pub fn missing(expression: &str, metrics: &Metrics) -> Vec<String> {
    let named = match named(expression) {
        Ok(named) => named,
        Err(error) => return vec![error],
    };
    let mut missing = Vec::new();
    let mut known: Vec<String> = ["job", "instance"].map(str::to_owned).into();
    for Selector { name, matchers } in &named.selectors {
        // The scraper's own.
        if name == "up" {
            continue;
        }
        let labels = metrics.label_names(name);
        if !metrics.has(name) {
            missing.push(format!("no series is called {name}: {expression}"));
        }
        for (label, operator, value) in matchers {
            if ["job", "instance"].contains(&label.as_str()) {
                continue;
            }
            if !labels.contains(label) {
                missing.push(format!("{name} has no label {label}: {expression}"));
                continue;
            }
            let values: Vec<&str> =
                if operator == "=~" { value.split('|').collect() } else { vec![value.as_str()] };
            for value in values.into_iter().filter(|value| !metrics.has_value(name, label, value)) {
                missing.push(format!("{name} never has {label}=\"{value}\": {expression}"));
            }
        }
        known.extend(labels);
    }
    for label in named.groups.iter().filter(|label| !known.contains(label)) {
        missing.push(format!("nothing has the label {label}: {expression}"));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::{Metrics, missing, named};

    #[test]
    fn names_labels_and_groups_are_found() {
        let found = named(
            "histogram_quantile(0.95, sum by (job, le) (rate(void_wasm_a_bucket{job=~\"$job\",x=\"1|2\"}[5m]))) / up > 1",
        )
        .unwrap();
        assert_eq!(found.groups, ["job", "le"]);
        assert_eq!(found.selectors.len(), 2);
        assert_eq!(found.selectors[0].name, "void_wasm_a_bucket");
        assert_eq!(found.selectors[0].matchers[1], ("x".into(), "=".into(), "1|2".into()));
        assert!(named("sum(viod_wasm_a)").unwrap_err().contains("viod_wasm_a"));
    }

    #[test]
    fn what_is_not_there_is_told() {
        let metrics = Metrics::parse("void_wasm_a{x=\"1\"} 0\n");
        assert!(missing("sum by (x) (void_wasm_a{x=~\"1\",job=\"j\"})", &metrics).is_empty());
        for (expression, word) in [
            ("void_wasm_b", "void_wasm_b"),
            ("void_wasm_a{y=\"1\"}", "no label y"),
            ("void_wasm_a{x=~\"1|2\"}", "x=\"2\""),
            ("sum by (z) (void_wasm_a)", "label z"),
        ] {
            let told = missing(expression, &metrics);
            assert!(told.len() == 1 && told[0].contains(word), "{expression}: {told:?}");
        }
    }
}
