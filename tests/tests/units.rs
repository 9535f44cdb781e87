//! The files in `deploy/systemd` are what systemd and the service understand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use void_tests::{EnvFile, Server, said, supervisor, tool};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn unit(name: &str) -> PathBuf {
    root().join("deploy/systemd").join(name)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The version of systemd that is installed here, if one is.
fn systemd() -> Option<u32> {
    let output = tool("systemd", Command::new("systemd-analyze").arg("--version"))?;
    let said = said(&output);
    let version = said.strip_prefix("systemd ")?.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(version.parse().expect("systemd says its version"))
}

/// The settings in the file that is shipped, all of them commented out: name and default.
fn shipped() -> BTreeMap<String, String> {
    let text = text(&unit("void-wasm.env"));
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let comment = line.strip_prefix('#').unwrap_or_else(|| panic!("not commented out: {line}"));
        if let Some((name, value)) = comment.split_once('=').filter(|_| !comment.starts_with(' ')) {
            assert!(found.insert(name.to_owned(), value.to_owned()).is_none(), "{name} stands there twice");
        }
    }
    found
}

/// The settings in docs/settings.md, which a test of their own crate holds to the code: name and default.
fn documented() -> BTreeMap<String, String> {
    let page = text(&root().join("docs/settings.md"));
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells =
        rows.filter_map(|row| row.split_once("` | ").map(|(name, rest)| (name, rest.split(" | ").next())));
    cells
        .filter(|(name, _)| name.starts_with("WASM_") || name.starts_with("FNPM_"))
        .map(|(name, default)| (name.to_owned(), default.unwrap_or_default().trim_matches('`').to_owned()))
        .collect()
}

#[test]
fn systemd_understands_the_units() {
    let Some(version) = systemd() else { return };
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    for name in ["void-wasm.service", "void-wasm.socket"] {
        // The program lies elsewhere here.
        let here = text(&unit(name))
            .replace("/usr/lib/void-wasm/void-supervisor", supervisor().to_str().expect("a plain path"));
        std::fs::write(folder.path().join(name), here).expect("written");
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    verify.args(["void-wasm.service", "void-wasm.socket"].map(|name| folder.path().join(name)));
    let output = tool("systemd", &mut verify).expect("it was there a moment ago");
    let said = said(&output);
    // Other units of this machine are not ours to judge, and older versions do not know the newer of the two types.
    let of_ours = said.lines().filter(|line| line.contains("void-wasm"));
    let complaints: Vec<&str> =
        of_ours.filter(|line| version >= 253 || !line.contains("ignoring: notify-reload")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn the_service_is_exposed_by_at_most_two() {
    if systemd().is_none() {
        return;
    }
    let mut security = Command::new("systemd-analyze");
    security
        .args(["security", "--offline=true", "--no-pager", "--threshold=20"])
        .arg(unit("void-wasm.service"));
    let output = tool("systemd", &mut security).expect("it was there a moment ago");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_user_is_made() {
    if systemd().is_none() {
        return;
    }
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("etc")).expect("a folder");
    let mut users = Command::new("systemd-sysusers");
    users
        .arg(format!("--root={}", folder.path().display()))
        .arg(unit("void-wasm.sysusers").canonicalize().unwrap());
    let output = tool("systemd", &mut users).expect("it came with the others");
    assert!(output.status.success(), "{}", said(&output));
    let made = text(&folder.path().join("etc/passwd"));
    let user = made.lines().find(|line| line.starts_with("void-wasm:")).unwrap_or_else(|| panic!("{made}"));
    assert!(user.contains(":/var/lib/void-wasm:") && user.ends_with("nologin"), "{user}");
}

#[test]
fn the_file_of_settings_has_every_one_with_its_default() {
    let (shipped, documented) = (shipped(), documented());
    let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&shipped), names(&documented));
    // What depends on the machine, or is where the unit puts it.
    let elsewhere = ["WASM_WORKERS", "WASM_STATE_DIR", "FNPM_MANIFEST_DIRS", "FNPM_CACHE_DIR"];
    for (name, default) in documented.iter().filter(|(name, _)| !elsewhere.contains(&name.as_str())) {
        let default = if default == "none" { "" } else { default.trim_end_matches('/') };
        assert_eq!(shipped[name], default, "{name}");
    }
    let unit = text(&unit("void-wasm.service"));
    for folder in ["WASM_STATE_DIR", "FNPM_MANIFEST_DIRS"] {
        assert!(shipped[folder].starts_with("/var/lib/void-wasm"), "{folder}");
    }
    for line in ["StateDirectory=void-wasm", "CacheDirectory=void-wasm"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    for name in ["FNPM_MANIFEST_DIRS", "FNPM_CACHE_DIR"] {
        assert!(unit.contains(&format!("{name}={}", shipped[name])), "{name} is another one in the unit");
    }
}

#[test]
fn the_service_takes_the_file_with_every_setting_in_force() {
    let own = ["WASM_LISTEN", "WASM_STATE_DIR", "FNPM_MANIFEST_DIRS", "FNPM_CACHE_DIR", "FNPM_HTTP_GATEWAYS"];
    let shipped = shipped();
    let lines: Vec<String> = shipped
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert!(lines.len() + own.len() == shipped.len());
    let env = EnvFile::new(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let server = Server::builder().env("WASM_ENV_FILE", env.path()).start();
    assert!(!server.log().contains("WARN"), "{}", server.log());
    let policy = server.get("/v1/policy").json();
    let in_force = policy["settings"].as_object().expect("settings");
    for (name, value) in in_force.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
        let shipped = shipped.get(name).unwrap_or_else(|| panic!("{name} is not in the file"));
        assert_eq!(value.as_str(), Some(shipped.as_str()), "{name}");
    }
}

#[test]
fn the_unit_and_the_package_agree_on_every_place() {
    let unit = text(&unit("void-wasm.service"));
    let setup = text(&root().join("deploy/debian/postinst"));
    for place in ["/etc/void-wasm/void-wasm.env", "/etc/void-wasm/credentials"] {
        assert!(unit.contains(place) && setup.contains(place), "{place}");
    }
    for script in ["postinst", "prerm", "postrm"] {
        let path = root().join("deploy/debian").join(script);
        let output = Command::new("sh").arg("-n").arg(&path).output().expect("a shell");
        assert!(output.status.success(), "{script}: {}", said(&output));
    }
}
