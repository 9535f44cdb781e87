//! The names of all settings, whether they follow a reload, and each one's value in force as text.

use std::path::Path;

use super::Settings;

/// Names the environment file. Read by the supervisor, from the environment only.
pub const ENV_FILE: &str = "WASM_ENV_FILE";

/// When a changed value holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// From the next request on.
    Follows,
    /// After a restart.
    Restart,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// As it stands in the environment.
    pub name: &'static str,
    /// When a changed value holds.
    pub reload: Reload,
    /// Whether any tenant may see it: paths of the host are the operator's alone.
    pub public: bool,
    show: fn(&Settings) -> String,
}

const fn follows(name: &'static str, show: fn(&Settings) -> String) -> Variable {
    Variable { name, reload: Reload::Follows, public: true, show }
}

const fn restart(name: &'static str, show: fn(&Settings) -> String) -> Variable {
    Variable { name, reload: Reload::Restart, public: true, show }
}

const fn private(variable: Variable) -> Variable {
    Variable { public: false, ..variable }
}

fn switch(on: bool) -> String {
    u8::from(on).to_string()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn joined<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(",")
}

/// Every setting but `WASM_ENV_FILE`; `PORT` is shown as the `WASM_LISTEN` that it makes.
pub const VARIABLES: &[Variable] = &[
    follows("WASM_EXEC_ENABLED", |s| switch(s.switches.enabled)),
    follows("WASM_EXEC_FREEZE", |s| switch(s.switches.freeze)),
    follows("WASM_EXEC_CANARY", |s| s.switches.canary.get().to_string()),
    follows("WASM_MEM_PAGES_MAX", |s| s.limits.mem_pages.to_string()),
    follows("WASM_CPU_MS_BUDGET", |s| s.limits.cpu_ms.to_string()),
    follows("WASM_WALL_MS_BUDGET", |s| s.limits.wall_ms.to_string()),
    follows("WASM_CAPS", |s| s.grants.caps.to_string()),
    follows("WASM_HTTP_ALLOWLIST", |s| s.grants.http.allowlist.to_string()),
    follows("WASM_HTTP_RPS", |s| s.grants.http.rps.to_string()),
    follows("WASM_HTTP_BURST", |s| s.grants.http.burst.to_string()),
    follows("WASM_HTTP_MAX_BYTES", |s| s.grants.http.max_bytes.to_string()),
    follows("WASM_KV_MAX_KEYS", |s| s.grants.kv.max_keys.to_string()),
    follows("WASM_KV_MAX_VALUE_BYTES", |s| s.grants.kv.max_value_bytes.to_string()),
    follows("WASM_SYSCALL_MAX", |s| s.limits.syscalls_max.to_string()),
    follows("WASM_SYSCALL_RPS", |s| s.limits.syscalls_rps.to_string()),
    follows("WASM_OUTPUT_MAX_BYTES", |s| s.limits.output_max_bytes.to_string()),
    private(restart("WASM_LISTEN", |s| s.listen.to_string())),
    private(follows("WASM_API_TOKENS_FILE", |s| s.api_tokens_file.as_deref().map(path).unwrap_or_default())),
    private(restart("WASM_STATE_DIR", |s| path(&s.state.dir))),
    restart("WASM_WORKERS", |s| s.work.workers.to_string()),
    follows("WASM_QUEUE_MAX", |s| s.work.queue_max.to_string()),
    restart("WASM_ISOLATION", |s| s.work.isolation.to_string()),
    restart("WASM_ALLOW_WEAKER_ISOLATION", |s| switch(s.work.allow_weaker_isolation)),
    restart("WASM_DURABILITY", |s| s.state.durability.to_string()),
    restart("WASM_RUNS_KEEP", |s| s.retention.runs.to_string()),
    restart("WASM_RUNS_KEEP_HOURS", |s| s.retention.hours.to_string()),
    private(follows("WASM_HTTP_SECRETS_FILE", |s| {
        s.http_secrets_file.as_deref().map(path).unwrap_or_default()
    })),
    private(restart("FNPM_MANIFEST_DIRS", |s| joined(&s.supply.manifest_dirs, |dir| path(dir)))),
    private(restart("FNPM_CACHE_DIR", |s| path(&s.supply.cache_dir))),
    private(restart("FNPM_IPFS_API", |s| {
        s.supply.ipfs_api.as_ref().map(ToString::to_string).unwrap_or_default()
    })),
    restart("FNPM_HTTP_GATEWAYS", |s| joined(&s.supply.http_gateways, ToString::to_string)),
    restart("FNPM_FETCH_TIMEOUT_MS", |s| s.supply.fetch_timeout_ms.to_string()),
    restart("FNPM_MAX_FILE_SIZE", |s| s.supply.max_file_size.to_string()),
];

impl Settings {
    /// Every setting's value as it could be written in the environment, in the order of [`VARIABLES`].
    #[must_use]
    pub fn in_force(&self) -> Vec<(&'static str, String)> {
        VARIABLES.iter().map(|variable| (variable.name, (variable.show)(self))).collect()
    }

    /// As [`Settings::in_force`], without what only the operator may see.
    #[must_use]
    pub fn public_view(&self) -> Vec<(&'static str, String)> {
        VARIABLES.iter().filter(|v| v.public).map(|variable| (variable.name, (variable.show)(self))).collect()
    }
}

/// The known `WASM_*` name that differs least.
pub(super) fn nearest(name: &str) -> &'static str {
    // Longer names than any known one cannot get nearer by being read on.
    let name: Vec<char> = name.chars().take(64).collect();
    let known = VARIABLES.iter().map(|v| v.name).filter(|known| known.starts_with("WASM_"));
    known.chain([ENV_FILE]).min_by_key(|known| distance(&name, known)).unwrap_or(ENV_FILE)
}

/// Edit distance by insertion, deletion and replacement of one character.
fn distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, b) in b.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, a) in row.iter_mut().skip(1).zip(a) {
            let above = *cell;
            left = (above + 1).min(left + 1).min(diagonal + usize::from(*a != b));
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        for (name, expected) in [
            ("WASM_EXEC_ENABLE", "WASM_EXEC_ENABLED"),
            ("WASM_CPU_BUDGET_MS", "WASM_CPU_MS_BUDGET"),
            ("WASM_HTTP_ALLOW_LIST", "WASM_HTTP_ALLOWLIST"),
            ("WASM_ENVFILE", "WASM_ENV_FILE"),
            ("WASM_CAP", "WASM_CAPS"),
        ] {
            assert_eq!(nearest(name), expected);
        }
    }

    #[test]
    fn distances() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        for (a, b, expected) in
            [("", "", 0), ("abc", "", 3), ("", "abc", 3), ("kitten", "sitting", 3), ("a", "a", 0)]
        {
            assert_eq!(distance(&chars(a), b), expected, "{a} {b}");
        }
    }
}
