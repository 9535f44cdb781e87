//! The Prometheus text format, as far as a test asks.

use std::collections::BTreeMap;

/// One reading of `/metrics`.
#[derive(Debug, Clone)]
pub struct Metrics {
    samples: Vec<Sample>,
    types: BTreeMap<String, String>,
    helps: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Parses a page; panics on a line that is none.
    #[track_caller]
    pub fn parse(page: &str) -> Self {
        let mut metrics = Self { samples: Vec::new(), types: BTreeMap::new(), helps: BTreeMap::new() };
        for line in page.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type has a name");
                metrics.types.insert(name.to_owned(), kind.to_owned());
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                metrics.helps.insert(name.to_owned(), help.to_owned());
            } else if !line.starts_with('#') {
                metrics.samples.push(Sample::parse(line).unwrap_or_else(|| panic!("not a sample: {line}")));
            }
        }
        metrics
    }

    /// The sum of all samples of that name whose labels include these.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples
            .iter()
            .filter(|sample| sample.name == name)
            .filter(|sample| {
                labels.iter().all(|(k, v)| sample.labels.get(*k).map(String::as_str) == Some(*v))
            })
            .map(|sample| sample.value)
            .sum()
    }

    /// Whether there is a series of that name, also one of a histogram.
    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }

    /// Whether a series of that name has that label with that value.
    pub fn has_value(&self, name: &str, label: &str, value: &str) -> bool {
        self.samples
            .iter()
            .any(|sample| sample.name == name && sample.labels.get(label).is_some_and(|found| found == value))
    }

    /// `counter`, `gauge` or `histogram`.
    pub fn kind(&self, name: &str) -> Option<&str> {
        self.types.get(name).map(String::as_str)
    }

    /// What it is, in words.
    pub fn help(&self, name: &str) -> Option<&str> {
        self.helps.get(name).map(String::as_str)
    }

    /// All families that declare a type.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.types.keys().map(String::as_str)
    }

    /// The label names that the samples of a family carry.
    pub fn label_names(&self, name: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .samples
            .iter()
            .filter(|sample| sample.name == name)
            .flat_map(|sample| sample.labels.keys().cloned())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// All label values of the page, to look for one that must not be there.
    pub fn label_values(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().flat_map(|sample| sample.labels.values().map(String::as_str))
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let mut found = BTreeMap::new();
        let mut rest = labels.strip_suffix('}')?;
        while let Some((label, after)) = rest.split_once("=\"") {
            let end = after.find('"')?;
            found.insert(label.trim_start_matches(',').to_owned(), after[..end].to_owned());
            rest = &after[end + 1..];
        }
        Some(Self { name: name.to_owned(), labels: found, value: value.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn samples_are_summed_by_label() {
        let metrics = Metrics::parse(
            "# HELP runs What ran.\n# TYPE runs counter\nruns{mode=\"live\",status=\"error\"} 2\n\
             runs{mode=\"live\",status=\"finished\"} 3\nbare 7.5\n",
        );
        assert_eq!(metrics.sum("runs", &[]), 5.0);
        assert_eq!(metrics.sum("runs", &[("status", "error")]), 2.0);
        assert_eq!(metrics.sum("bare", &[]), 7.5);
        assert_eq!((metrics.kind("runs"), metrics.help("runs")), (Some("counter"), Some("What ran.")));
        assert_eq!(metrics.label_names("runs"), ["mode", "status"]);
    }
}
