//! The settings, parsed once from variables into what the service acts by. A value that is not understood is an error
//! here and never a default.
//!
//! `variables` lists the names, `read` turns texts into values, `env_file` reads the file's syntax, `listen` the address.
//! Opening files, and when to reload, are the supervisor's.

pub mod env_file;
mod listen;
mod parts;
mod read;
mod variables;

use std::collections::BTreeMap;
use std::path::PathBuf;

use void_api::clip;

pub use listen::Listen;
pub use parts::{
    Caps, Durability, Grants, HttpGrant, Isolation, KvGrant, Limits, Retention, State, Supply, Switches, Work,
};
pub use read::SettingError;
pub use variables::{ENV_FILE, Reload, VARIABLES, Variable};

use read::Reader;

/// Everything that can be set, in parts. A run keeps the parts that stood when it was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Enabled, freeze, canary.
    pub switches: Switches,
    /// What one run may spend.
    pub limits: Limits,
    /// What a guest may ask the gateway for.
    pub grants: Grants,
    /// Where requests come in. Sockets passed by systemd win over it; [`Listen::of`] judges those.
    pub listen: Listen,
    /// `WASM_API_TOKENS_FILE`
    pub api_tokens_file: Option<PathBuf>,
    /// `WASM_HTTP_SECRETS_FILE`
    pub http_secrets_file: Option<PathBuf>,
    /// What survives, and where.
    pub state: State,
    /// How many runs at once, and how they are kept apart.
    pub work: Work,
    /// Ended runs kept.
    pub retention: Retention,
    /// Where modules come from.
    pub supply: Supply,
}

/// A name that nothing reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Not a variable of this service.
    #[error("{name} is not a setting and was ignored; did you mean {nearest}?")]
    Unknown {
        /// As given, shortened.
        name: String,
        /// The known name that differs least.
        nearest: &'static str,
    },
    /// `WASM_ENV_FILE` inside the file that it names.
    #[error("WASM_ENV_FILE in the file itself was ignored; set it in the environment")]
    EnvFileInFile,
}

/// One setting that a reload changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its variable.
    pub variable: &'static str,
    /// As [`Settings::in_force`] shows it.
    pub old: String,
    /// As [`Settings::in_force`] shows it.
    pub new: String,
}

impl Settings {
    /// Reads all settings. `file` holds what [`env_file::parse`] read, and wins over `env`, name by name; in each, a later
    /// value wins over an earlier. `cores` is for the default of `WASM_WORKERS`.
    ///
    /// # Errors
    /// Every value that is not understood, is out of range, or does not go together with another.
    pub fn from_vars(
        env: impl IntoIterator<Item = (String, String)>,
        file: Option<Vec<(String, String)>>,
        cores: usize,
    ) -> Result<(Self, Vec<Warning>), Vec<SettingError>> {
        let mut warnings = Vec::new();
        let mut vars: BTreeMap<String, String> = env.into_iter().collect();
        for (name, value) in file.into_iter().flatten() {
            if name == ENV_FILE {
                warnings.push(Warning::EnvFileInFile);
            } else {
                vars.insert(name, value);
            }
        }
        warnings.extend(vars.keys().filter_map(|name| unknown(name)));
        let mut reader = Reader::new(vars);
        let settings = Self::read(&mut reader, cores);
        if let Err(error) = settings.check_listen() {
            reader.refuse(error);
        }
        match reader.errors() {
            errors if errors.is_empty() => Ok((settings, warnings)),
            errors => Err(errors),
        }
    }

    fn read(reader: &mut Reader, cores: usize) -> Self {
        let state = State::read(reader);
        Self {
            switches: Switches::read(reader),
            limits: Limits::read(reader),
            grants: Grants::read(reader),
            listen: Listen::read(reader),
            api_tokens_file: reader.optional_path("WASM_API_TOKENS_FILE"),
            http_secrets_file: reader.optional_path("WASM_HTTP_SECRETS_FILE"),
            work: Work::read(reader, cores),
            retention: Retention::read(reader),
            supply: Supply::read(reader, &state.dir),
            state,
        }
    }

    /// Without tokens everyone who can connect is the tenant `default`: that may be this machine's users at most.
    fn check_listen(&self) -> Result<(), SettingError> {
        if self.api_tokens_file.is_some() || self.listen.is_local() {
            return Ok(());
        }
        let accepted = "a loopback address or unix:/path as long as WASM_API_TOKENS_FILE is not set";
        Err(SettingError::new("WASM_LISTEN", &self.listen.to_string(), accepted))
    }

    /// The settings after a reload that read `new`: what follows a reload is new, what needs a restart stays. Also the
    /// variables that were changed and need a restart.
    ///
    /// # Errors
    /// `new` takes away the tokens under the address that is listened on now.
    pub fn follow(&self, new: Self) -> Result<(Self, Vec<&'static str>), SettingError> {
        let waiting = Self::restart_only_changes(self, &new);
        let merged = Self {
            listen: self.listen.clone(),
            state: self.state.clone(),
            retention: self.retention,
            work: Work { queue_max: new.work.queue_max, ..self.work },
            supply: self.supply.clone(),
            ..new
        };
        merged.check_listen()?;
        Ok((merged, waiting))
    }

    /// The variables whose change needs a restart.
    #[must_use]
    pub fn restart_only_changes(old: &Self, new: &Self) -> Vec<&'static str> {
        let changes = Self::diff(old, new).into_iter();
        let restart = |name: &str| VARIABLES.iter().any(|v| v.name == name && v.reload == Reload::Restart);
        changes.map(|change| change.variable).filter(|name| restart(name)).collect()
    }

    /// What differs, in the order of [`VARIABLES`].
    #[must_use]
    pub fn diff(old: &Self, new: &Self) -> Vec<Change> {
        let pairs = old.in_force().into_iter().zip(new.in_force());
        pairs
            .filter(|((_, old), (_, new))| old != new)
            .map(|((variable, old), (_, new))| Change { variable, old, new })
            .collect()
    }
}

fn unknown(name: &str) -> Option<Warning> {
    if !name.starts_with("WASM_") || name == ENV_FILE || VARIABLES.iter().any(|v| v.name == name) {
        return None;
    }
    Some(Warning::Unknown { name: clip(name).to_string(), nearest: variables::nearest(name) })
}

#[cfg(test)]
#[path = "settings/tests.rs"]
mod tests;
