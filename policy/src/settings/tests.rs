//! Settings from variables: defaults, ranges, what wins, what a reload may change.

use proptest::prelude::*;

use super::*;

fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read(pairs: &[(&str, &str)]) -> Result<(Settings, Vec<Warning>), Vec<SettingError>> {
    Settings::from_vars(vars(pairs), None, 2)
}

fn good(pairs: &[(&str, &str)]) -> Settings {
    read(pairs).unwrap_or_else(|errors| panic!("{pairs:?}: {errors:?}")).0
}

#[test]
fn defaults() {
    let (settings, warnings) = read(&[("HOME", "/home/u")]).unwrap();
    assert!(warnings.is_empty());
    let expected = [
        ("WASM_EXEC_ENABLED", "0"),
        ("WASM_EXEC_FREEZE", "0"),
        ("WASM_EXEC_CANARY", "0.05"),
        ("WASM_MEM_PAGES_MAX", "256"),
        ("WASM_CPU_MS_BUDGET", "200"),
        ("WASM_WALL_MS_BUDGET", "1000"),
        ("WASM_CAPS", "emit"),
        ("WASM_HTTP_ALLOWLIST", ""),
        ("WASM_HTTP_RPS", "2"),
        ("WASM_HTTP_BURST", "4"),
        ("WASM_HTTP_MAX_BYTES", "131072"),
        ("WASM_KV_MAX_KEYS", "100"),
        ("WASM_KV_MAX_VALUE_BYTES", "4096"),
        ("WASM_SYSCALL_MAX", "1000"),
        ("WASM_SYSCALL_RPS", "500"),
        ("WASM_OUTPUT_MAX_BYTES", "65536"),
        ("WASM_LISTEN", "127.0.0.1:3456"),
        ("WASM_API_TOKENS_FILE", ""),
        ("WASM_STATE_DIR", "./.void-wasm"),
        ("WASM_WORKERS", "8"),
        ("WASM_QUEUE_MAX", "1024"),
        ("WASM_ISOLATION", "run"),
        ("WASM_ALLOW_WEAKER_ISOLATION", "0"),
        ("WASM_DURABILITY", "normal"),
        ("WASM_RUNS_KEEP", "1000000"),
        ("WASM_RUNS_KEEP_HOURS", "168"),
        ("WASM_HTTP_SECRETS_FILE", ""),
        ("FNPM_MANIFEST_DIRS", "./chimera-output"),
        ("FNPM_CACHE_DIR", "/home/u/.fnpm/cache/wasm"),
        ("FNPM_IPFS_API", ""),
        ("FNPM_HTTP_GATEWAYS", "https://ipfs.io/"),
        ("FNPM_FETCH_TIMEOUT_MS", "5000"),
        ("FNPM_MAX_FILE_SIZE", "52428800"),
    ];
    assert_eq!(settings.in_force(), expected.map(|(name, value)| (name, value.to_owned())));
}

#[test]
fn every_variable_is_read_and_shown() {
    let pairs = [
        ("WASM_EXEC_ENABLED", "1"),
        ("WASM_EXEC_FREEZE", "1"),
        ("WASM_EXEC_CANARY", "0.5"),
        ("WASM_MEM_PAGES_MAX", "65536"),
        ("WASM_CPU_MS_BUDGET", "3600000"),
        ("WASM_WALL_MS_BUDGET", "1"),
        ("WASM_CAPS", "emit,http,kv"),
        ("WASM_HTTP_ALLOWLIST", "api.example.com,*.example.org,10.0.0.1:8080"),
        ("WASM_HTTP_RPS", "7"),
        ("WASM_HTTP_BURST", "8"),
        ("WASM_HTTP_MAX_BYTES", "9"),
        ("WASM_KV_MAX_KEYS", "10"),
        ("WASM_KV_MAX_VALUE_BYTES", "11"),
        ("WASM_SYSCALL_MAX", "12"),
        ("WASM_SYSCALL_RPS", "13"),
        ("WASM_OUTPUT_MAX_BYTES", "14"),
        ("WASM_LISTEN", "[::]:80"),
        ("WASM_API_TOKENS_FILE", "/etc/tokens"),
        ("WASM_STATE_DIR", "/var/lib/x"),
        ("WASM_WORKERS", "15"),
        ("WASM_QUEUE_MAX", "16"),
        ("WASM_ISOLATION", "module"),
        ("WASM_ALLOW_WEAKER_ISOLATION", "1"),
        ("WASM_DURABILITY", "full"),
        ("WASM_RUNS_KEEP", "17"),
        ("WASM_RUNS_KEEP_HOURS", "18"),
        ("WASM_HTTP_SECRETS_FILE", "/etc/secrets"),
        ("FNPM_MANIFEST_DIRS", "/a,/b"),
        ("FNPM_CACHE_DIR", "/c"),
        ("FNPM_IPFS_API", "http://127.0.0.1:5001/"),
        ("FNPM_HTTP_GATEWAYS", "https://a.example/,http://b.example/x"),
        ("FNPM_FETCH_TIMEOUT_MS", "19"),
        ("FNPM_MAX_FILE_SIZE", "20"),
    ];
    assert_eq!(good(&pairs).in_force(), pairs.map(|(name, value)| (name, value.to_owned())));
    assert_eq!(VARIABLES.len(), pairs.len());
}

#[test]
fn a_bad_value_is_named_with_what_is_accepted() {
    for (name, value, accepted) in [
        ("WASM_EXEC_ENABLED", "true", "0 or 1"),
        ("WASM_EXEC_FREEZE", "", "0 or 1"),
        ("WASM_EXEC_CANARY", "1.1", "from 0 to 1"),
        ("WASM_EXEC_CANARY", "-0.1", "from 0 to 1"),
        ("WASM_EXEC_CANARY", "NaN", "from 0 to 1"),
        ("WASM_EXEC_CANARY", "inf", "from 0 to 1"),
        ("WASM_EXEC_CANARY", "5%", "from 0 to 1"),
        ("WASM_MEM_PAGES_MAX", "0", "from 1 to 65536"),
        ("WASM_MEM_PAGES_MAX", "65537", "from 1 to 65536"),
        ("WASM_CPU_MS_BUDGET", "-1", "from 1 to 3600000"),
        ("WASM_CPU_MS_BUDGET", "+1", "from 1 to 3600000"),
        ("WASM_CPU_MS_BUDGET", "1e3", "from 1 to 3600000"),
        ("WASM_CPU_MS_BUDGET", "200 ", "from 1 to 3600000"),
        ("WASM_CPU_MS_BUDGET", "99999999999999999999", "from 1 to 3600000"),
        ("WASM_CAPS", "emit,fs", "emit, http and kv"),
        ("WASM_HTTP_ALLOWLIST", "https://a.com", "host:port"),
        ("WASM_LISTEN", "3456", "host:port"),
        ("WASM_LISTEN", "unix:relative", "absolute path"),
        ("WASM_LISTEN", ":80", "host:port"),
        ("WASM_LISTEN", "::1:80", "host:port"),
        ("PORT", "65536", "from 0 to 65535"),
        ("WASM_STATE_DIR", "", "a path"),
        ("WASM_ISOLATION", "none", "run or module"),
        ("WASM_DURABILITY", "Full", "normal or full"),
        ("FNPM_IPFS_API", "127.0.0.1:5001", "http://"),
        ("FNPM_IPFS_API", "http://u:p@a/", "without user"),
        ("FNPM_HTTP_GATEWAYS", "ftp://a", "http://"),
        ("FNPM_CACHE_DIR", "~/x", "a path"),
    ] {
        let errors =
            read(&[(name, value)]).map(|(settings, _)| settings).expect_err(&format!("{name}={value}"));
        assert_eq!(errors.len(), 1, "{name}={value}: {errors:?}");
        let text = errors[0].to_string();
        assert!(text.starts_with(&format!("{name} is \"{value}\"")), "{text}");
        assert!(text.contains(accepted), "{text}");
    }
}

#[test]
fn all_errors_are_told_at_once_and_each_is_short() {
    let long = "x".repeat(10_000);
    let errors = read(&[("WASM_WORKERS", &long), ("WASM_CAPS", "a\nb")]).unwrap_err();
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().all(|error| error.to_string().len() < 250 && !error.to_string().contains('\n')));
}

#[test]
fn the_file_wins_name_by_name() {
    let env = vars(&[("WASM_EXEC_FREEZE", "1"), ("WASM_WORKERS", "3")]);
    let file = vars(&[("WASM_EXEC_FREEZE", "1"), ("WASM_EXEC_FREEZE", "0"), ("WASM_ENV_FILE", "/x")]);
    let (settings, warnings) = Settings::from_vars(env, Some(file), 2).unwrap();
    assert!(!settings.switches.freeze);
    assert_eq!(settings.work.workers, 3);
    assert_eq!(warnings, [Warning::EnvFileInFile]);
}

#[test]
fn listening_beyond_this_machine_needs_tokens() {
    for local in
        ["127.0.0.1:0", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1", "unix:/run/x.sock"]
    {
        assert!(good(&[("WASM_LISTEN", local)]).listen.is_local(), "{local}");
    }
    for open in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "example.com:80", "localhost.evil.net:1", "127.1:80"]
    {
        let errors = read(&[("WASM_LISTEN", open)]).map(|(settings, _)| settings).expect_err(open);
        assert_eq!(errors[0].variable, "WASM_LISTEN");
        assert!(errors[0].accepted.contains("WASM_API_TOKENS_FILE"));
        assert!(!good(&[("WASM_LISTEN", open), ("WASM_API_TOKENS_FILE", "/t")]).listen.is_local());
    }
    assert_eq!(good(&[("PORT", "8080")]).listen.to_string(), "127.0.0.1:8080");
    assert_eq!(good(&[("PORT", "8080"), ("WASM_LISTEN", "[::1]:9")]).listen.to_string(), "[::1]:9");
}

#[test]
fn directories_have_their_defaults() {
    let state = |pairs: &[(&str, &str)]| good(pairs).state.dir;
    assert_eq!(state(&[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")]), PathBuf::from("/var/lib/a"));
    assert_eq!(state(&[("STATE_DIRECTORY", "/a"), ("WASM_STATE_DIR", "/b")]), PathBuf::from("/b"));
    for home in ["", "~", "rel"] {
        assert_eq!(
            good(&[("HOME", home)]).supply.cache_dir,
            PathBuf::from("./.void-wasm/fnpm-cache"),
            "{home}"
        );
    }
    let home = good(&[("HOME", "/h"), ("FNPM_CACHE_DIR", "~/c"), ("FNPM_MANIFEST_DIRS", " ~/m , ./n ,")]);
    assert_eq!(home.supply.cache_dir, PathBuf::from("/h/c"));
    assert_eq!(home.supply.manifest_dirs, [PathBuf::from("/h/m"), PathBuf::from("./n")]);
    let none = good(&[("FNPM_HTTP_GATEWAYS", ""), ("FNPM_MANIFEST_DIRS", ""), ("FNPM_IPFS_API", "")]);
    assert!(none.supply.http_gateways.is_empty() && none.supply.manifest_dirs.is_empty());
    assert_eq!(none.supply.ipfs_api, None);
}

#[test]
fn a_kubo_node_is_named_by_a_url_or_a_multiaddr() {
    for (given, url) in [
        ("http://127.0.0.1:5001", "http://127.0.0.1:5001/"),
        ("/ip4/127.0.0.1/tcp/5001", "http://127.0.0.1:5001/"),
        ("/ip6/::1/tcp/5001/http", "http://[::1]:5001/"),
        ("/dns4/node.example/tcp/443/https", "https://node.example/"),
    ] {
        let settings = good(&[("FNPM_IPFS_API", given)]);
        assert_eq!(settings.supply.ipfs_api.map(|url| url.to_string()).as_deref(), Some(url));
    }
    for bad in [
        "/ip4/127.0.0.1",
        "/ip4/127.0.0.1/udp/5001",
        "/unix/a",
        "/ip4/u@h/tcp/1",
        "/ip4/127.0.0.1/tcp/5001/p2p/x",
    ] {
        assert!(read(&[("FNPM_IPFS_API", bad)]).is_err(), "{bad}");
    }
}

#[test]
fn unknown_names_are_warned_about_with_the_nearest() {
    let (_, warnings) = read(&[("WASM_EXEC_FREZE", "1"), ("OTHER", "x"), ("WASM_ENV_FILE", "/x")]).unwrap();
    assert_eq!(warnings, [Warning::Unknown { name: "WASM_EXEC_FREZE".into(), nearest: "WASM_EXEC_FREEZE" }]);
}

#[test]
fn a_reload_takes_what_it_may_and_names_the_rest() {
    let old = good(&[("WASM_LISTEN", "127.0.0.1:1"), ("HOME", "/h")]);
    let new = good(&[
        ("WASM_LISTEN", "127.0.0.1:2"),
        ("WASM_STATE_DIR", "/s"),
        ("WASM_WORKERS", "99"),
        ("WASM_QUEUE_MAX", "5"),
        ("WASM_EXEC_FREEZE", "1"),
        ("WASM_CAPS", "kv"),
        ("WASM_CPU_MS_BUDGET", "7"),
        ("HOME", "/h"),
    ]);
    let (merged, waiting) = old.follow(new).unwrap();
    assert_eq!(waiting, ["WASM_LISTEN", "WASM_STATE_DIR", "WASM_WORKERS"]);
    let changed: Vec<_> = Settings::diff(&old, &merged).into_iter().map(|change| change.variable).collect();
    assert_eq!(changed, ["WASM_EXEC_FREEZE", "WASM_CPU_MS_BUDGET", "WASM_CAPS", "WASM_QUEUE_MAX"]);
    // Whatever the table says follows a reload does, and nothing else.
    assert!(Settings::restart_only_changes(&old, &merged).is_empty());
}

#[test]
fn a_reload_cannot_take_the_tokens_from_an_open_address() {
    let old = good(&[("WASM_LISTEN", "0.0.0.0:80"), ("WASM_API_TOKENS_FILE", "/t")]);
    let error = old.follow(good(&[])).unwrap_err();
    assert_eq!(error.variable, "WASM_LISTEN");
}

#[test]
fn what_tenants_may_see_has_no_path() {
    let shown = good(&[("WASM_STATE_DIR", "/secret/place"), ("HOME", "/secret")]).public_view();
    assert!(shown.iter().all(|(_, value)| !value.contains("secret")), "{shown:?}");
}

proptest! {
    #[test]
    fn any_value_of_any_variable_is_judged_without_panic(
        name in prop::sample::select(VARIABLES.iter().map(|v| v.name).chain(["PORT", "HOME", "STATE_DIRECTORY"]).collect::<Vec<_>>()),
        value in ".*|[0-9a-z:./,*\\[\\]~-]{0,20}",
        cores: usize,
    ) {
        match Settings::from_vars([(name.to_owned(), value)], None, cores) {
            // What is in force reads back as itself.
            Ok((settings, _)) => {
                let shown = settings.in_force();
                let again = shown.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
                let (again, _) = Settings::from_vars(again, None, cores).map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
                prop_assert_eq!(again.in_force(), shown);
            }
            Err(errors) => prop_assert!(!errors.is_empty()),
        }
    }

    #[test]
    fn any_name_is_judged_without_panic(name in "WASM_[A-Z_]{0,80}|.*", value: String) {
        let _ = Settings::from_vars([(name, value)], None, 1);
    }
}
