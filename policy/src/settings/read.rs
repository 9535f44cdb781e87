//! From texts to values. Each method reads one variable, notes an error where the text is not understood, and returns a
//! stand-in so that reading goes on and all errors are told at once.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use url::Url;
use void_api::clip;

/// A value that stops the start, or the reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    /// The variable.
    pub variable: &'static str,
    /// Its value, shortened.
    pub value: String,
    /// What it may be.
    pub accepted: String,
}

impl SettingError {
    pub(super) fn new(variable: &'static str, value: &str, accepted: impl Display) -> Self {
        Self { variable, value: clip(value).to_string(), accepted: accepted.to_string() }
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is \"{}\"; accepted is {}", self.variable, self.value, self.accepted)
    }
}

impl std::error::Error for SettingError {}

pub(super) struct Reader {
    vars: BTreeMap<String, String>,
    errors: Vec<SettingError>,
}

impl Reader {
    pub(super) const fn new(vars: BTreeMap<String, String>) -> Self {
        Self { vars, errors: Vec::new() }
    }

    pub(super) fn errors(self) -> Vec<SettingError> {
        self.errors
    }

    pub(super) fn refuse(&mut self, error: SettingError) {
        self.errors.push(error);
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// The value of a variable that is set, or the default; `accepted` ends the sentence "accepted is …".
    pub(super) fn value<T>(
        &mut self,
        name: &'static str,
        default: T,
        accepted: impl Display,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let Some(text) = self.vars.get(name) else { return default };
        parse(text).unwrap_or_else(|| {
            self.errors.push(SettingError::new(name, text, accepted));
            default
        })
    }

    /// A whole number in decimal digits, nothing else.
    pub(super) fn number<T>(&mut self, name: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: Copy + Display + PartialOrd + std::str::FromStr,
    {
        let accepted = format!("a whole number from {} to {}", range.start(), range.end());
        self.value(name, default, accepted, |text| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|number| digits && range.contains(number))
        })
    }

    /// 0 or 1. Other spellings of yes and no are refused rather than guessed.
    pub(super) fn switch(&mut self, name: &'static str) -> bool {
        self.value(name, false, "0 or 1", |text| match text {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        })
    }

    /// One word of a closed set.
    pub(super) fn word<T: Copy + Display>(&mut self, name: &'static str, default: T, words: &[T]) -> T {
        let shown: Vec<String> = words.iter().map(ToString::to_string).collect();
        self.value(name, default, shown.join(" or "), |text| {
            words.iter().zip(&shown).find(|(_, word)| *word == text).map(|(value, _)| *value)
        })
    }

    /// A path; `~/` at its start is the home directory, as in the documentation of the defaults.
    pub(super) fn path(&mut self, name: &'static str, default: PathBuf) -> PathBuf {
        let home = self.home();
        self.value(name, default, "a path", |text| path(text, home.as_deref()))
    }

    /// A path, or none where the variable is empty or not set.
    pub(super) fn optional_path(&mut self, name: &'static str) -> Option<PathBuf> {
        let home = self.home();
        self.value(name, None, "a path, or nothing", |text| {
            if text.is_empty() { Some(None) } else { path(text, home.as_deref()).map(Some) }
        })
    }

    /// A comma separated list; spaces around items and empty items do not count.
    pub(super) fn paths(&mut self, name: &'static str, default: Vec<PathBuf>) -> Vec<PathBuf> {
        let home = self.home();
        self.value(name, default, "a comma separated list of paths", |text| {
            items(text).map(|item| path(item, home.as_deref())).collect()
        })
    }

    /// As [`Reader::paths`], of addresses.
    pub(super) fn urls(&mut self, name: &'static str, default: &str) -> Vec<Url> {
        let default: Vec<Url> = items(default).filter_map(http_url).collect();
        let accepted =
            "a comma separated list of http:// or https:// addresses without user, query and fragment";
        self.value(name, default, accepted, |text| items(text).map(http_url).collect())
    }

    /// An address, which may be a multiaddr, or none where the variable is empty or not set.
    pub(super) fn optional_url(&mut self, name: &'static str) -> Option<Url> {
        let accepted =
            "an http:// or https:// address without user, query and fragment, a multiaddr, or nothing";
        self.value(name, None, accepted, |text| match text {
            "" => Some(None),
            multiaddr if text.starts_with('/') => http_url(&from_multiaddr(multiaddr)?).map(Some),
            _ => http_url(text).map(Some),
        })
    }

    pub(super) fn home(&self) -> Option<PathBuf> {
        // A relative one would mean another place with every working directory.
        self.text("HOME").filter(|home| home.starts_with('/')).and_then(|home| path(home, None))
    }
}

pub(super) fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

pub(super) fn path(text: &str, home: Option<&std::path::Path>) -> Option<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        return None;
    }
    let below_home = if text == "~" { Some("") } else { text.strip_prefix("~/") };
    match (below_home, home) {
        (Some(rest), Some(home)) => Some(home.join(rest)),
        // Without a home the path would be relative, with a directory called "~".
        (Some(_), None) => None,
        (None, _) => Some(PathBuf::from(text)),
    }
}

// A user and password would end up in logs and in the policy that tenants may read.
fn http_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && plain && url.fragment().is_none())
        .then_some(url)
}

/// `/ip4/127.0.0.1/tcp/5001`, also with ip6, dns, dns4 or dns6, and `/http` or `/https` at the end.
fn from_multiaddr(address: &str) -> Option<String> {
    let mut parts = address.strip_prefix('/')?.trim_end_matches('/').split('/');
    let (kind, host) = (parts.next()?, parts.next()?);
    let host = match kind {
        "ip4" | "dns" | "dns4" | "dns6" => host.to_owned(),
        "ip6" => format!("[{host}]"),
        _ => return None,
    };
    if parts.next()? != "tcp" {
        return None;
    }
    let port: u16 = parts.next()?.parse().ok()?;
    let scheme = match (parts.next(), parts.next()) {
        (None | Some("http"), None) => "http",
        (Some("https"), None) => "https",
        _ => return None,
    };
    Some(format!("{scheme}://{host}:{port}"))
}
