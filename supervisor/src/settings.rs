//! The settings in force: read from the environment and from files, and replaced as a whole by a reload. What a value
//! means is policy's; here is the reading of files.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use void_policy::secrets::Secrets;
use void_policy::settings::{Change, ENV_FILE, VARIABLES, env_file};
use void_policy::{SettingError, Settings, Tokens};

use crate::metrics::Metrics;

const TOKENS_FILE: &str = "WASM_API_TOKENS_FILE";
const SECRETS_FILE: &str = "WASM_HTTP_SECRETS_FILE";
/// Longer files are none of ours.
const FILE_MAX_BYTES: u64 = 4 << 20;

/// Everything that was set, at one moment. A request keeps the one that it found.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The values.
    pub(crate) settings: Settings,
    /// Who may call; `None` where everyone who can connect may.
    pub(crate) tokens: Option<Tokens>,
    /// What is added to guests' requests.
    pub(crate) secrets: Secrets,
    /// Counts the reloads that took effect.
    pub(crate) generation: u64,
    /// The values as the store keeps them beside a run, made once for all runs.
    blob: Bytes,
}

impl Snapshot {
    fn new(settings: Settings, tokens: Option<Tokens>, secrets: Secrets, generation: u64) -> Snapshot {
        // Pairs of texts: this cannot fail.
        let blob = serde_json::to_vec(&settings.in_force()).map(Bytes::from).unwrap_or_default();
        Snapshot { settings, tokens, secrets, generation, blob }
    }

    /// The settings that stood when a run was accepted, for a run that is taken up again.
    pub(crate) fn of_run(settings: Settings) -> Snapshot {
        Snapshot::new(settings, None, Secrets::default(), 0)
    }

    /// The values as JSON, a list of pairs of name and value that [`Settings::from_vars`] reads back.
    pub(crate) fn blob(&self) -> Bytes {
        self.blob.clone()
    }
}

/// What a reload changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    /// What holds from now on.
    pub(crate) changed: Vec<Change>,
    /// Variables whose new value waits for a restart.
    pub(crate) waiting: Vec<&'static str>,
}

/// The settings in force, for all threads.
#[derive(Debug)]
pub(crate) struct Live {
    current: ArcSwap<Snapshot>,
    open: AtomicBool,
}

/// Reads the environment, and the files that it names. What is odd and not wrong is logged.
fn load() -> Result<Snapshot, Vec<SettingError>> {
    let mut errors = Vec::new();
    let env = environment(std::env::vars_os(), &mut errors);
    let file = match env.iter().find(|(name, value)| name == ENV_FILE && !value.is_empty()) {
        Some((_, path)) => read_env_file(path).map_err(|error| errors.push(error)).ok(),
        None => None,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let settings = match Settings::from_vars(env, file, cores) {
        Ok((settings, warnings)) => {
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            settings
        }
        Err(more) => {
            errors.extend(more);
            return Err(errors);
        }
    };
    let tokens = match settings.api_tokens_file.as_deref().map(read_tokens).transpose() {
        Ok(tokens) => tokens,
        Err(more) => {
            errors.extend(more);
            None
        }
    };
    let secrets = match settings.http_secrets_file.as_deref().map(read_secrets).transpose() {
        Ok(secrets) => secrets.unwrap_or_default(),
        Err(more) => {
            errors.extend(more);
            Secrets::default()
        }
    };
    if errors.is_empty() { Ok(Snapshot::new(settings, tokens, secrets, 0)) } else { Err(errors) }
}

/// The variables that are text. Another program's may be anything; one of ours that is no text is an error.
fn environment(
    vars: impl Iterator<Item = (OsString, OsString)>,
    errors: &mut Vec<SettingError>,
) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for (name, value) in vars {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => texts.push((name, value)),
            Err(value) => {
                let ours = VARIABLES.iter().map(|variable| variable.name).chain([ENV_FILE, "PORT"]);
                if let Some(variable) = ours.into_iter().find(|known| *known == name) {
                    errors.push(refusal(variable, &value.to_string_lossy(), "a value in UTF-8"));
                }
            }
        }
    }
    texts
}

fn refusal(variable: &'static str, value: &str, accepted: impl ToString) -> SettingError {
    SettingError { variable, value: void_api::clip(value).to_string(), accepted: accepted.to_string() }
}

fn read_env_file(path: &str) -> Result<Vec<(String, String)>, SettingError> {
    let text = read_text(Path::new(path))
        .map_err(|error| refusal(ENV_FILE, path, format_args!("a file that can be read ({error})")))?;
    env_file::parse(&text)
        .map_err(|error| refusal(ENV_FILE, path, format_args!("a file of NAME=value lines; {error}")))
}

fn read_tokens(path: &Path) -> Result<Tokens, Vec<SettingError>> {
    let text = read_confidential(TOKENS_FILE, path)?;
    Tokens::parse(&text).map_err(|errors| {
        let shown = path.display().to_string();
        let told =
            |error| refusal(TOKENS_FILE, &shown, format_args!("a file of tenants and tokens; {error}"));
        errors.into_iter().map(told).collect()
    })
}

fn read_secrets(path: &Path) -> Result<Secrets, Vec<SettingError>> {
    let text = read_confidential(SECRETS_FILE, path)?;
    Secrets::parse(&text).map_err(|errors| {
        let shown = path.display().to_string();
        let told =
            |error| refusal(SECRETS_FILE, &shown, format_args!("a file of headers for hosts; {error}"));
        errors.into_iter().map(told).collect()
    })
}

fn read_confidential(variable: &'static str, path: &Path) -> Result<String, Vec<SettingError>> {
    let shown = path.display().to_string();
    let text = read_text(path).map_err(|error| {
        vec![refusal(variable, &shown, format_args!("a file that can be read ({error}), or nothing"))]
    })?;
    if std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0) {
        tracing::warn!(variable, path = shown, "every user of this machine may use this file: chmod o= it");
    }
    Ok(text)
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX_BYTES { Err(ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

impl Live {
    /// Reads the environment, and the files that it names.
    ///
    /// # Errors
    /// Everything that is wrong, so that one look is enough to mend it.
    pub(crate) fn load() -> Result<Live, Vec<SettingError>> {
        load().map(Live::new)
    }

    fn new(snapshot: Snapshot) -> Live {
        Live { current: ArcSwap::from_pointee(snapshot), open: AtomicBool::new(false) }
    }

    /// What holds now.
    pub(crate) fn now(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// As [`Live::now`], for a look that is over at once: dearer to keep, cheaper to take.
    pub(crate) fn peek(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Notes that a socket can be reached from other machines, whatever `WASM_LISTEN` says: from now on no reload may
    /// take the tokens away.
    pub(crate) fn reached_from_outside(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// Reads everything again. All of it holds when this returns, or none; either is logged and counted, and where it
    /// holds, only after `apply` has made it hold everywhere: whoever sees the settings, the line or the count may rely on it.
    ///
    /// # Errors
    /// Everything that is wrong; the settings stay as they were.
    pub(crate) async fn reload(
        &self,
        metrics: &Metrics,
        apply: impl AsyncFnOnce(&Settings),
    ) -> Result<Changes, Vec<SettingError>> {
        let outcome = match load().and_then(|new| self.judge(new)) {
            Ok((snapshot, changes)) => {
                apply(&snapshot.settings).await;
                self.current.store(Arc::new(snapshot));
                Ok(changes)
            }
            Err(errors) => Err(errors),
        };
        metrics.reloaded(outcome.is_ok());
        match &outcome {
            Ok(changes) => {
                for Change { variable, old, new } in &changes.changed {
                    tracing::info!(variable, old, new, "a setting was changed");
                }
                for variable in &changes.waiting {
                    tracing::warn!(variable, "a changed setting waits for a restart");
                }
                tracing::info!(
                    changed = changes.changed.len(),
                    waiting = changes.waiting.len(),
                    "settings reloaded"
                );
            }
            Err(errors) => {
                errors.iter().for_each(|error| tracing::error!("{error}"));
                tracing::error!("the reload was refused; the settings stay as they were");
            }
        }
        outcome
    }

    /// What would hold after a reload, and what that changes.
    fn judge(&self, new: Snapshot) -> Result<(Snapshot, Changes), Vec<SettingError>> {
        let old = self.now();
        let (settings, waiting) = old.settings.follow(new.settings).map_err(|error| vec![error])?;
        if self.open.load(Ordering::Relaxed) && new.tokens.is_none() {
            let accepted =
                "a file of tokens, as long as a socket passed by systemd can be reached from other machines";
            return Err(vec![refusal(TOKENS_FILE, "", accepted)]);
        }
        let changed = Settings::diff(&old.settings, &settings);
        let snapshot = Snapshot::new(settings, new.tokens, new.secrets, old.generation + 1);
        Ok((snapshot, Changes { changed, waiting }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(vars: &[(&str, &str)], tokens: Option<&str>) -> Snapshot {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let (settings, _) = Settings::from_vars(vars, None, 2).unwrap();
        let tokens = tokens.map(|text| Tokens::parse(text).unwrap());
        Snapshot::new(settings, tokens, Secrets::default(), 0)
    }

    #[test]
    fn a_reload_says_what_holds_and_what_waits() {
        let live = Live::new(snapshot(&[("WASM_EXEC_ENABLED", "1")], None));
        let new =
            snapshot(&[("WASM_EXEC_ENABLED", "1"), ("WASM_EXEC_FREEZE", "1"), ("WASM_WORKERS", "7")], None);
        let (now, changes) = live.judge(new).unwrap();
        assert_eq!(changes.changed.iter().map(|c| c.variable).collect::<Vec<_>>(), ["WASM_EXEC_FREEZE"]);
        assert_eq!(changes.waiting, ["WASM_WORKERS"]);
        assert!(now.settings.switches.freeze && now.settings.work.workers != 7);
        assert_eq!(now.generation, 1);
    }

    #[test]
    fn tokens_cannot_be_taken_from_a_socket_that_others_reach() {
        let live = Live::new(snapshot(&[("WASM_API_TOKENS_FILE", "/t")], Some("a secret")));
        live.reached_from_outside();
        let errors = live.judge(snapshot(&[], None)).unwrap_err();
        assert_eq!(errors[0].variable, TOKENS_FILE);
        assert!(live.now().tokens.is_some());
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let error = read_env_file("/nonexistent/env").unwrap_err().to_string();
        assert!(error.contains(ENV_FILE) && error.contains("/nonexistent/env"), "{error}");
        let errors = read_tokens(Path::new("/nonexistent/tokens")).unwrap_err();
        assert!(errors[0].to_string().contains("/nonexistent/tokens"));
    }
}
