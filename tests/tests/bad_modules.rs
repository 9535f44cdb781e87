//! Modules that are none, or that are meant to hurt: refused or ended with a reason, the supervisor's memory flat.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::time::Duration;

use serde_json::json;
use void_tests::{
    Server, Upstream, eventually, guest, long_to_compile_module, module_of_many_functions, sha256_of,
    slow_to_compile_module, wat,
};

/// How a module came to grief: the code with which its upload was refused, or the reason with which its run ended.
fn verdict(server: &Server, module: &[u8]) -> (String, String) {
    let response = server.put_module(module);
    if response.status >= 400 {
        return (response.problem(), response.json()["detail"].as_str().unwrap_or_default().to_owned());
    }
    let cid = response.json()["cid"].as_str().expect("a CID").to_owned();
    let run = server.run(&cid, "run", json!([1, 2]));
    assert_eq!(run.status(), "error", "{}", run.record());
    (run.reason().to_owned(), run.error().to_owned())
}

/// Nothing is left of a compiler, and runs go on.
fn all_is_well(server: &Server) {
    eventually("no compiler is left", Duration::from_secs(10), || {
        server.processes("void-compiler").is_empty()
    });
    let cid = server.upload_guest("add");
    assert_eq!(server.run(&cid, "add", json!([2, 3])).result(), &json!(5));
}

/// The most memory that the supervisor has ever had, in MiB.
fn peak_mib(server: &Server) -> u64 {
    server.process().kib("VmHWM") >> 10
}

#[test]
fn what_is_not_wasm_is_refused() {
    let server = Server::start();
    let add = guest("add");
    let component = b"\0asm\x0d\0\x01\0".as_slice();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("text", b"(module)".to_vec()),
        ("half a magic number", b"\0as".to_vec()),
        ("a magic number alone", b"\0asm".to_vec()),
        ("an unknown version", b"\0asm\x02\0\0\0".to_vec()),
        ("an empty component", component.to_vec()),
        ("an ELF file", std::fs::read("/proc/self/exe").expect("own executable")[..100_000].to_vec()),
        ("zeroes", vec![0; 100_000]),
        ("a module with rubbish behind it", [add.as_slice(), b"rubbish"].concat()),
        ("a section longer than the file", b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f".to_vec()),
        ("a module cut in the middle", add[..add.len() / 2].to_vec()),
        ("a module without its last byte", add[..add.len() - 1].to_vec()),
    ];
    for (what, module) in cases {
        let (code, sentence) = verdict(&server, &module);
        assert_eq!(code, "module_invalid", "{what}: {sentence}");
    }
    all_is_well(&server);
}

#[test]
fn a_module_cut_anywhere_is_refused_or_runs_without_harm() {
    let server = Server::start();
    let whole = guest("traps");
    for length in (0..whole.len()).step_by(7) {
        let response = server.put_module(&whole[..length]);
        if response.status < 400 {
            let cid = response.json()["cid"].as_str().expect("a CID").to_owned();
            let run = server.run(&cid, "unreachable", json!([]));
            assert!(
                matches!(run.reason(), "module_invalid" | "entry_not_found"),
                "{length}: {}",
                run.record()
            );
        }
    }
    all_is_well(&server);
}

#[test]
fn what_the_engine_does_not_offer_is_refused() {
    let server = Server::start();
    for (what, text) in [
        ("shared memory", r#"(module (memory 1 1 shared) (func (export "run")))"#),
        ("a type error", r#"(module (func (export "run") (result i32) i64.const 0))"#),
        ("an unknown local", r#"(module (func (export "run") local.get 7 drop))"#),
    ] {
        let (code, sentence) = verdict(&server, &wat(text));
        assert_eq!(code, "module_invalid", "{what}: {sentence}");
    }
    all_is_well(&server);
}

#[test]
fn an_unknown_import_is_named() {
    let server = Server::start();
    for (name, wanted) in [("unknown_import", "mystery_function"), ("wrong_import", "random_get")] {
        let (code, sentence) = verdict(&server, &guest(name));
        assert_eq!(code, "module_invalid", "{sentence}");
        assert!(sentence.contains(wanted), "the import is named: {sentence}");
    }
    all_is_well(&server);
}

#[test]
fn a_hundred_megabytes_are_refused_and_not_kept_in_memory() {
    let server = Server::start();
    let before = peak_mib(&server);
    let mut module = slow_to_compile_module(1 << 10);
    module.resize(100 << 20, 0);
    let response = server.put_module(&module);
    assert_eq!((response.status, response.problem().as_str()), (413, "module_too_large"));

    // Not announced: refused when it is over.
    let mut client = server.connect();
    client
        .send_raw(b"PUT /v1/modules HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("a head can be sent");
    let chunk = [b"100000\r\n".as_slice(), &module[..1 << 20], b"\r\n"].concat();
    for _ in 0..100 {
        if client.send_raw(&chunk).is_err() {
            break;
        }
    }
    if let Ok(response) = client.read_response() {
        assert_eq!(response.status, 413);
    }
    let grown = peak_mib(&server) - before;
    assert!(grown < 160, "the supervisor grew by {grown} MiB");
    eventually("the supervisor gives the memory back", Duration::from_secs(10), || {
        server.process().kib("VmRSS") >> 10 < before + 48
    });
    all_is_well(&server);
}

#[test]
fn a_million_functions_end_with_a_reason() {
    let server = Server::start();
    let before = peak_mib(&server);
    let (code, sentence) = verdict(&server, &module_of_many_functions(1_000_001));
    assert_eq!(code, "module_invalid", "{sentence}");
    let response = server.put_module(&module_of_many_functions(999_999));
    if response.status < 400 {
        let cid = response.json()["cid"].as_str().expect("a CID").to_owned();
        let run = server.run(&cid, "run", json!([1, 2]));
        assert!(
            run.status() == "finished" || matches!(run.reason(), "compile_budget" | "module_invalid"),
            "{}",
            run.record()
        );
    }
    let grown = peak_mib(&server) - before;
    assert!(grown < 200, "the supervisor grew by {grown} MiB");
    all_is_well(&server);
}

#[test]
fn what_takes_too_long_to_compile_ends_in_compile_budget() {
    let server = Server::start();
    let module = long_to_compile_module();
    assert!(module.len() < 512 << 10, "no one can tell it by its size: {} bytes", module.len());
    let response = server.put_module(&module);
    assert_eq!(response.status, 201, "{}", response.text());
    let cid = response.json()["cid"].as_str().expect("a CID").to_owned();
    let add = server.upload_guest("add");
    let request = json!({"target": {"cid": cid}, "entry": "run", "args": [1, 2]});
    let slow = server.exec(request.clone()).start();
    // Others do not wait for it.
    assert_eq!(server.run(&add, "add", json!([2, 3])).result(), &json!(5));
    let run = server.wait_for(&slow);
    run.failed_with("compile_budget");
    assert_eq!(run.usage("cpu_ms"), 0, "compiling is not the guest's CPU time");
    all_is_well(&server);
}

#[test]
fn an_upload_tells_what_the_module_is() {
    let server = Server::start();
    let response = server.put_module(&guest("add"));
    assert_eq!(response.status, 201, "{}", response.text());
    let info = response.json();
    assert_eq!(info["kind"], "module");
    assert_eq!(info["size"], guest("add").len());
    assert_eq!(info["imports"], json!([]));
    assert_eq!(info["exports"][0]["name"], "add");
    assert_eq!(info["exports"][0]["kind"], "func");
    assert_eq!(info["sha256"].as_str().map(|hash| hash.trim_start_matches("sha256:").len()), Some(64));
    let cid = info["cid"].as_str().expect("a CID");
    let again = server.get(&format!("/v1/modules/{cid}"));
    assert_eq!((again.status, again.json()), (200, info.clone()));
    let command = server.put_module(&guest("start_export")).json();
    assert_eq!(command["kind"], "command");
}

#[test]
fn an_upload_tells_types_memories_and_what_its_imports_need() {
    let server = Server::start();
    let module = wat(r#"(module
        (import "void" "kv_get" (func (param i32 i32 i32 i32 i32 i32) (result i32)))
        (import "void" "kv_set" (func (param i32 i32 i32 i32 i32 i32) (result i32)))
        (import "void" "emit" (func (param i32 i32 i32 i32) (result i32)))
        (import "void" "http_body_len" (func (result i32)))
        (import "elsewhere" "http_fetch" (func))
        (memory (export "memory") 2 7)
        (memory 1)
        (table (export "t") 3 funcref)
        (global (export "g") (mut i64) i64.const 0)
        (func (export "f") (param f32 v128) (result i32 f64) unreachable)
        (func (export "r") (param funcref)))"#);
    let uploaded = server.put_module(&module);
    assert_eq!(uploaded.status, 201, "{}", uploaded.text());
    let info = uploaded.json();
    assert_eq!(info["caps"], json!(["emit", "http", "kv"]));
    assert_eq!(info["memories"], json!([{"min": 2, "max": 7}, {"min": 1}]));
    let export = |name: &str| {
        let exports = info["exports"].as_array().unwrap().clone();
        exports.into_iter().find(|export| export["name"] == name).unwrap()
    };
    assert_eq!(export("f")["params"], json!(["f32", "v128"]));
    assert_eq!(export("f")["results"], json!(["i32", "f64"]));
    assert_eq!(export("r")["params"], json!(["funcref"]));
    assert_eq!(export("g")["type"], "mut i64");
    assert_eq!(info["imports"].as_array().map(Vec::len), Some(5));
    let add = server.put_module(&guest("add")).json();
    assert_eq!((&add["caps"], &add["memories"]), (&json!([]), &json!([])));
}

#[test]
fn what_needs_a_garbage_collector_is_refused_by_its_name() {
    let server = Server::start();
    let (code, sentence) = verdict(&server, &wat(r#"(module (func (export "run") (param externref)))"#));
    assert_eq!(code, "module_invalid");
    assert!(sentence.contains("externref"), "{sentence}");
}

#[test]
fn the_known_answer_for_a_cid() {
    // The empty module's, computed with other tools.
    let server = Server::start();
    let info = server.put_module(b"\0asm\x01\0\0\0").json();
    assert_eq!(
        info["sha256"].as_str().map(|hash| hash.trim_start_matches("sha256:").to_owned()).as_deref(),
        Some("93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476")
    );
    assert_eq!(info["cid"], "bafkreieturf3xfwhkeqy4taa2r46jqkdlajcuoe2zsqwebnr4tinyx4uoy");
}

#[test]
fn a_run_of_a_component_is_refused_as_its_upload_is() {
    let server = Server::start();
    let component = b"\0asm\x0d\0\x01\0".as_slice();
    let refused = server.put_module(component);
    assert_eq!((refused.status, refused.problem().as_str()), (422, "module_invalid"));
    let sha256 = sha256_of(component);
    std::fs::write(server.manifests().join("part.wasm"), component).expect("a file");
    let manifest = json!({ "genes": [{ "name": "part", "sha256": sha256 }] });
    std::fs::write(server.manifests().join("manifest.json"), manifest.to_string()).expect("a manifest");
    // The second time from memory.
    for _ in 0..2 {
        let run = server.exec(json!({ "target": { "sha256": sha256 }, "entry": "run" })).wait();
        run.failed_with("module_invalid");
        assert!(
            run.error().contains("this is a component; only core modules are executed"),
            "{}",
            run.error()
        );
        assert!(!run.error().contains("feature"), "{}", run.error());
    }
    all_is_well(&server);
}

/// What one gateway says that nobody has verified decides nothing: the run ends, and the question about the module is
/// answered, by the same name, and both tell what each gateway said.
#[test]
fn a_gateway_that_lies_about_a_module_does_not_make_it_invalid() {
    let absent = Upstream::start(|_, to| {
        to.write_all(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    });
    let other = b"HTTP/1.1 200 x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nzz".as_slice();
    let endless = b"HTTP/1.1 200 x\r\nContent-Length: 1073741824\r\nConnection: close\r\n\r\nx".as_slice();
    for (lie, code, status, said) in [
        (other, "module_unverified", 422, "delivered other bytes"),
        (endless, "module_not_found", 404, "offered more than the 52428800 bytes allowed"),
    ] {
        let liar = Upstream::start(move |_, to| to.write_all(lie));
        let gateways = format!("http://{},http://{}", liar.address, absent.address);
        let server = Server::builder().env("FNPM_HTTP_GATEWAYS", &gateways).start();
        let cid = "bafkreibhmtmv24yn2zu7udv53bwwvgrylzhbep2e52p72tly7wjiufzpom";
        let run = server.run(cid, "add", json!([2, 3]));
        run.failed_with(code);
        let asked = server.get(&format!("/v1/modules/{cid}"));
        assert_eq!((asked.status, asked.problem().as_str()), (status, code), "{}", asked.text());
        let detail = asked.json()["detail"].as_str().expect("a detail").to_owned();
        for sentence in [run.error(), &detail] {
            assert!(sentence.contains(said) && sentence.contains("answered 404"), "{sentence}");
        }
    }
}
