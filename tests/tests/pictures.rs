//! The status page in a real browser: what it does there, and pictures of it to look at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::path::PathBuf;

use serde_json::json;
use void_tests::{Browser, EnvFile, Look, Server};

fn chromium() -> PathBuf {
    std::env::var_os("VOID_WASM_CHROMIUM").expect("run `cargo xtask pictures-test`").into()
}

/// Where pictures are laid for people.
fn keep(name: &str, picture: &[u8]) {
    let folder =
        PathBuf::from(std::env::var_os("VOID_WASM_PICTURES").expect("run `cargo xtask pictures-test`"));
    std::fs::create_dir_all(&folder).expect("a folder for the pictures");
    assert!(picture.starts_with(b"\x89PNG\r\n"), "a PNG");
    // An empty page of this size is a few kilobytes.
    assert!(picture.len() > 20_000, "{name} shows next to nothing: {} bytes", picture.len());
    std::fs::write(folder.join(name), picture).expect("written");
}

/// Runs of every kind.
fn make_runs(server: &Server) -> String {
    let add = server.upload_guest("add");
    let loops = server.upload_guest("loop");
    let traps = server.upload_guest("traps");
    for i in 0..40 {
        server.run(&add, "add(i32,i32)->i32", json!([i, 2]));
        if i % 4 == 0 {
            server.run(&loops, "spin", json!([2_000_000 * (i + 1)]));
        }
    }
    server.run(&traps, "divide_by_zero", json!([])).failed_with("trap");
    server.run(&add, "subtract", json!([1, 2])).failed_with("entry_not_found");
    server.run(&loops, "forever", json!([])).failed_with("cpu_budget");
    let labelled = json!({"target": {"cid": add}, "entry": "add", "args": [40, 2], "labels": {"repo": "void", "branch": "main"}});
    server.exec(labelled).wait().id().to_owned()
}

#[test]
#[ignore = "needs Chromium: `cargo xtask pictures-test` runs this"]
fn the_page_works_and_is_pictured() {
    let server = Server::start();
    let run = make_runs(&server);
    let mut browser = Browser::start(&chromium());
    let url = format!("http://{}/", server.address());
    browser.open(&url);
    assert_eq!(browser.evaluate("document.title"), json!("void-wasm"));
    let has = |text: &str| format!("document.body.innerText.includes({})", json!(text));
    assert_eq!(browser.evaluate(&has(&run)), json!(true));
    // The sheet of styles was taken: the panels have their round corners.
    assert_eq!(
        browser.evaluate("getComputedStyle(document.querySelector('section')).borderRadius"),
        json!("12px")
    );

    // What happens now is shown without a reload.
    browser.evaluate("window.untouched = true");
    let cid = server.upload_guest("add");
    let next = server.run(&cid, "add", json!([20, 1]));
    browser.wait_for(&has(next.id()));
    assert_eq!(browser.evaluate("window.untouched"), json!(true));
    assert_eq!(browser.said(), Vec::<String>::new());

    for (name, look) in [
        ("status-light-wide.png", Look { width: 1280, dark: false }),
        ("status-dark-wide.png", Look { width: 1280, dark: true }),
        ("status-light-narrow.png", Look { width: 400, dark: false }),
        ("status-dark-narrow.png", Look { width: 400, dark: true }),
    ] {
        keep(name, &browser.picture(look));
        let (inner, outer) = (
            browser.evaluate("document.documentElement.scrollWidth"),
            browser.evaluate("document.documentElement.clientWidth"),
        );
        assert_eq!(inner, outer, "{name} is wider than its window");
    }
    assert_eq!(browser.said(), Vec::<String>::new());

    // That the look at the console sees anything at all: the policy forbids this.
    browser.evaluate("void document.body.appendChild(Object.assign(document.createElement('script'), {text: 'window.bad = 1'}))");
    assert_eq!(browser.evaluate("window.bad === undefined"), json!(true));
    assert!(
        browser.said().iter().any(|line| line.contains("Content Security Policy")),
        "{:?}",
        browser.said()
    );
}

#[test]
#[ignore = "needs Chromium: `cargo xtask pictures-test` runs this"]
fn a_token_is_asked_for_and_kept_to_the_tab() {
    let tokens = EnvFile::new(&["anna anna-token-0123456789abcdef"]);
    let server = Server::builder().env("WASM_API_TOKENS_FILE", tokens.path()).start();
    let anna = [("Authorization", "Bearer anna-token-0123456789abcdef")];
    let cid = server.request("PUT", "/v1/modules", &anna, &void_tests::guest("add")).json()["cid"].clone();
    let exec = || {
        let request = json!({"target": {"cid": cid}, "entry": "add", "args": [1, 2]});
        let answer = server.exec(request).header(anna[0].0, anna[0].1).header("Prefer", "wait=30").send();
        answer.json()["run_id"].as_str().expect("an id").to_owned()
    };
    let run = exec();
    let mut browser = Browser::start(&chromium());
    browser.open(&format!("http://{}/", server.address()));
    assert_eq!(browser.evaluate(&format!("document.body.innerText.includes('{run}')")), json!(false));
    browser.wait_for("!document.getElementById('token').hidden");
    keep("status-token.png", &browser.picture(Look { width: 1000, dark: false }));
    browser.evaluate(
        "(() => { const form = document.getElementById('token'); form.elements.token.value = 'anna-token-0123456789abcdef'; \
         form.requestSubmit(); })()",
    );
    browser.wait_for(&format!("document.body.innerText.includes('{run}')"));
    let next = exec();
    browser.wait_for(&format!("document.body.innerText.includes('{next}')"));
    assert_eq!(browser.evaluate("location.href.includes('token')"), json!(false));
    let shown = browser.said();
    // The stream of events was refused once, before the token was known.
    assert!(shown.iter().all(|line| line.contains("401")), "{shown:?}");
}
