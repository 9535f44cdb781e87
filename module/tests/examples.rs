//! The example manifest folder: its files agree with each other, and its modules resolve as the README shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use support::{by_cid, digest, fresh, raw, supply};
use void_api::Target;
use void_module::SourceKind;

const GENES: [(&str, &str); 2] = [("add", "add(i32,i32)->i32"), ("multiply", "multiply(f64,f64)->f64")];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/chimera-output")
}

/// The manifest, and the modules by file name, as they are to be.
fn made() -> (String, Vec<(String, Vec<u8>)>) {
    let (mut genes, mut files) = (Vec::new(), Vec::new());
    for (name, entry) in GENES {
        let source = std::fs::read(folder().join(format!("{name}.wat"))).unwrap();
        let module = wat::parse_bytes(&source).unwrap().into_owned();
        genes.push(serde_json::json!({
            "name": name,
            "lang": "wat",
            "entry": entry,
            "sha256": hex::encode(digest(&module)),
            "cid": raw(&module).as_str(),
            "size": module.len(),
            "astHash": format!("sha256:{}", hex::encode(digest(&source))),
        }));
        files.push((format!("{name}.wasm"), module));
    }
    let manifest =
        serde_json::json!({ "version": "1.0.0", "createdAt": "2025-01-01T00:00:00.000Z", "genes": genes });
    (serde_json::to_string_pretty(&manifest).unwrap() + "\n", files)
}

#[tokio::test]
async fn the_example_is_what_its_sources_make_and_resolves_by_every_name() {
    let (manifest, files) = made();
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        std::fs::write(folder().join("manifest.json"), &manifest).unwrap();
        files.iter().for_each(|(name, bytes)| std::fs::write(folder().join(name), bytes).unwrap());
    }
    assert_eq!(std::fs::read_to_string(folder().join("manifest.json")).unwrap(), manifest);
    let (_top, mut config) = fresh();
    config.manifest_dirs = vec![folder()];
    let supply = supply(config);
    for (name, bytes) in files {
        assert_eq!(std::fs::read(folder().join(&name)).unwrap(), bytes, "{name}");
        let source = std::fs::read(folder().join(name.replace(".wasm", ".wat"))).unwrap();
        for target in
            [by_cid(raw(&bytes).as_str()), Target::Sha256(digest(&bytes)), Target::AstHash(digest(&source))]
        {
            let module = supply.resolve("default", &target).await.unwrap();
            assert_eq!((module.source, &module.bytes[..]), (SourceKind::Manifest, &bytes[..]));
        }
    }
}
