//! The dashboard and the alerts ask for what the server has, and Prometheus itself understands all of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use void_tests::{Client, Server, eventually, missing_series, said, tool};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn dashboard() -> Value {
    serde_json::from_str(&text("grafana/void-wasm.json")).expect("the dashboard is JSON")
}

/// Title and expression of everything that the dashboard asks for.
fn questions(dashboard: &Value) -> Vec<(String, String)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut questions = Vec::new();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            questions.push((words(&panel["title"]), words(&target["expr"])));
        }
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        questions.push((words(&annotation["name"]), words(&annotation["expr"])));
    }
    questions
}

/// The expressions of the alerts: each stands on one line.
fn alerts() -> Vec<String> {
    let text = text("prometheus/alerts.yml");
    let found: Vec<String> =
        text.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned).collect();
    assert_eq!(found.len(), text.matches("- alert: ").count(), "an expression does not stand on one line");
    found
}

#[test]
fn everything_asked_for_is_there_from_the_start() {
    let metrics = Server::start().metrics();
    let dashboard = dashboard();
    let asked = questions(&dashboard);
    assert!(asked.len() > 30, "the dashboard was not understood: {asked:?}");
    let mut missing: Vec<String> = Vec::new();
    for (title, expression) in &asked {
        missing.extend(missing_series(expression, &metrics).iter().map(|m| format!("{title}: {m}")));
    }
    for expression in alerts() {
        missing.extend(missing_series(&expression, &metrics));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn no_family_is_left_out_of_the_dashboard() {
    let metrics = Server::start().metrics();
    let asked: String =
        questions(&dashboard()).into_iter().map(|(_, expression)| expression + "\n").collect();
    let shown = |name: &str| {
        asked.match_indices(name).any(|(at, _)| {
            let after = asked[at + name.len()..].strip_prefix("_bucket").unwrap_or(&asked[at + name.len()..]);
            !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        })
    };
    let hidden: BTreeSet<&str> = metrics.names().filter(|name| !shown(name)).collect();
    assert!(hidden.is_empty(), "not on the dashboard: {hidden:?}");
}

#[test]
fn a_panel_has_a_place_of_its_own_and_says_what_it_shows() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_i64().expect("an id")), "twice: {}", panel["id"]);
        let at = |side: &str| panel["gridPos"][side].as_i64().expect("a place");
        assert!(at("x") + at("w") <= 24, "{panel}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "lies over another: {}", panel["title"]);
            }
        }
        if panel["type"] != "row" {
            assert!(
                panel["description"].as_str().is_some_and(|words| words.len() > 10),
                "{}",
                panel["title"]
            );
        }
    }
}

#[test]
fn promtool_accepts_the_metrics() {
    let server = Server::start();
    let cid = server.upload_guest("add");
    server.run(&cid, "add", json!([2, 3])).result();
    let page = server.get("/metrics").text();
    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if tool("prometheus", Command::new("promtool").arg("--version")).is_none() {
        return;
    }
    let mut child = check.spawn().expect("promtool");
    child.stdin.take().expect("a pipe").write_all(page.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("promtool ends");
    // The unit in these names was promised: milliseconds.
    let told = said(&output);
    let of_the_unit = |line: &&str| {
        line.contains("_ms ") && ["abbreviated unit", "base unit"].iter().any(|w| line.contains(w))
    };
    let others: Vec<&str> = told.lines().filter(|line| !of_the_unit(line)).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn promtool_accepts_the_alerts_and_they_fire_when_they_should() {
    let alerts = file("prometheus/alerts.yml");
    let tests = file("prometheus/alerts_test.yml");
    for (verb, path) in [("check", &alerts), ("test", &tests)] {
        let Some(output) = tool("prometheus", Command::new("promtool").args([verb, "rules"]).arg(path))
        else {
            return;
        };
        assert!(output.status.success(), "{}", said(&output));
    }
    // No alert without a test of it, raised and silent.
    let (rules, tests) = (text("prometheus/alerts.yml"), text("prometheus/alerts_test.yml"));
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let silent = tests.contains(&format!("alertname: {name}, exp_alerts: []"));
        let raised =
            tests.contains(&format!("alertname: {name}\n        exp_alerts:\n          - exp_labels"));
        assert!(silent && raised, "{name} has no test");
    }
}

/// A Prometheus that reads one server every two seconds, and ends with the test.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(server: &Server) -> Option<Self> {
        tool("prometheus", Command::new("prometheus").arg("--version"))?;
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let config = format!(
            "global: {{ scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s }}\nrule_files: [{:?}]\nscrape_configs:\n  - job_name: void-wasm\n    static_configs:\n      - targets: ['{}']\n",
            file("prometheus/alerts.yml").canonicalize().expect("the alerts"),
            server.address(),
        );
        std::fs::write(folder.path().join("config.yml"), config).expect("written");
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("config.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=json"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            let line: Value = serde_json::from_str(&line).ok()?;
            line["msg"].as_str().filter(|msg| *msg == "Listening on")?;
            line["address"].as_str()?.parse().ok()
        });
        let prometheus =
            Self { child, address: address.expect("prometheus says where it listens"), _folder: folder };
        // It listens before it answers questions.
        eventually("prometheus is ready", Duration::from_secs(60), || prometheus.is_ready());
        // Read on, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Some(prometheus)
    }

    fn is_ready(&self) -> bool {
        let mut client = Client::connect(self.address).expect("prometheus can be reached");
        client.request("GET", "/-/ready", &[], &[]).is_ok_and(|answer| answer.status == 200)
    }

    fn get(&self, path: &str) -> Value {
        let mut client = Client::connect(self.address).expect("prometheus can be reached");
        client.request("GET", path, &[], &[]).expect("an answer").json()
    }

    fn ask(&self, expression: &str) -> Value {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        self.get(&format!("/api/v1/query?query={escaped}"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_answers_every_question_of_the_dashboard() {
    let server = Server::start();
    let Some(prometheus) = Prometheus::start(&server) else { return };
    let cid = server.upload_guest("add");
    eventually("the server is read", Duration::from_secs(60), || {
        server.run(&cid, "add", json!([2, 3])).result();
        let runs = prometheus.ask("rate(void_wasm_run_duration_ms_count[30s]) > 0");
        runs["data"]["result"].as_array().is_some_and(|found| !found.is_empty())
    });
    // These have something to show only where something was refused or asked for lately.
    let may_be_empty = ["Denials", "Where modules come from", "Starts"];
    for (title, expression) in questions(&dashboard()) {
        let expression = expression
            .replace("$__rate_interval", "30s")
            .replace("$__range", "1m")
            .replace("$job", ".+")
            .replace("$instance", ".+");
        // On a busy machine a reading may fail, and then nothing is known for a moment.
        eventually(&format!("{title} shows something: {expression}"), Duration::from_secs(60), || {
            let answer = prometheus.ask(&expression);
            assert_eq!(answer["status"], "success", "{title}: {expression}: {answer}");
            let found = answer["data"]["result"].as_array().expect("a result");
            !found.is_empty() || may_be_empty.contains(&title.as_str())
        });
    }
    let rules = || {
        let rules = prometheus.get("/api/v1/rules");
        rules["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default()
    };
    eventually("the alerts are looked at", Duration::from_secs(30), || {
        let rules = rules();
        rules.len() == alerts().len() && rules.iter().all(|rule| rule["health"] != "unknown")
    });
    for rule in rules() {
        assert_eq!(rule["health"], json!("ok"), "{rule}");
        assert_ne!(rule["state"], json!("firing"), "{rule}");
    }
}
