//! Uploads, manifests, the cache folder and memory, over real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use support::{Gene, by_bytes, digest, fresh, gateway, kubo, laid, manifest, put, raw, supply};
use void_api::{Reason, Target};
use void_module::{ResolveError, SourceKind, Supply, UploadError};

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const OTHER: &[u8] = b"\0asm\x01\0\0\0other";

async fn error(supply: &Supply, target: &Target) -> ResolveError {
    supply.resolve("default", target).await.unwrap_err()
}

#[tokio::test]
async fn an_upload_is_there_at_once_after_a_restart_and_for_its_tenant_alone() {
    let (_top, config) = fresh();
    let first = supply(config.clone());
    let stored = first.upload("anna", Bytes::from_static(MODULE)).await.unwrap();
    assert_eq!((stored.size, stored.new, stored.sha256), (8, true, digest(MODULE)));
    assert_eq!(stored.cid, raw(MODULE).as_str());
    assert!(!first.upload("anna", Bytes::from_static(MODULE)).await.unwrap().new);
    for supply in [first, supply(config)] {
        for target in [by_bytes(MODULE), Target::Sha256(digest(MODULE))] {
            let module = supply.resolve("anna", &target).await.unwrap();
            assert_eq!((module.source, &module.bytes[..]), (SourceKind::Uploads, MODULE));
            let error = supply.resolve("ben", &target).await.unwrap_err();
            assert_eq!(error.reason(), Reason::ModuleNotFound);
        }
    }
}

#[tokio::test]
async fn uploads_are_bounded_each_and_together() {
    let (_top, mut config) = fresh();
    config.max_file_size = 10;
    config.upload_quota = 4096;
    let supply = supply(config);
    let large = supply.upload("t", Bytes::from_static(OTHER)).await.unwrap_err();
    assert_eq!(large, UploadError::TooLarge { size: OTHER.len() as u64, max: 10 });
    supply.upload("t", Bytes::from_static(MODULE)).await.unwrap();
    let full = supply.upload("t", Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(full, UploadError::Quota { left: 0, .. }));
    // Uploads at the same time cannot pass the quota together.
    let uploads = (0..20u8).map(|n| supply.upload("u", Bytes::from(vec![n])));
    let kept = futures_util::future::join_all(uploads).await.iter().filter(|kept| kept.is_ok()).count();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_manifest_serves_by_cid_by_sha256_and_by_ast_hash() {
    let (top, config) = fresh();
    let folder = top.path().join("chimera-output");
    let by_layout = raw(OTHER);
    put(&folder.join("add.wasm"), MODULE);
    put(&laid(&folder, by_layout.as_str(), "wasm"), OTHER);
    let text = manifest(&[
        Gene { name: "add", sha256: Some(digest(MODULE)), ast: Some([1; 32]), ..Gene::default() },
        Gene { name: "mul", cid: Some(by_layout.as_str()), ast: Some([2; 32]), ..Gene::default() },
    ]);
    put(&folder.join("manifest.json"), text);
    let supply = supply(config);
    for (target, bytes) in [
        (by_bytes(MODULE), MODULE),
        (Target::Sha256(digest(MODULE)), MODULE),
        (Target::AstHash([1; 32]), MODULE),
        (Target::AstHash([2; 32]), OTHER),
        (by_bytes(OTHER), OTHER),
    ] {
        let module = supply.resolve("default", &target).await.unwrap();
        assert_eq!((module.source, &module.bytes[..]), (SourceKind::Manifest, bytes));
        assert_eq!(module.fetched_from.as_deref(), Some("chimera-output/manifest.json"));
    }
    let unknown = error(&supply, &Target::AstHash([3; 32])).await;
    assert_eq!(unknown.reason(), Reason::ModuleNotFound);
    assert!(unknown.to_string().contains("does not list it"), "{unknown}");
}

#[tokio::test]
async fn an_ast_hash_leads_to_its_cid_wherever_that_is() {
    let (top, config) = fresh();
    let cid = raw(MODULE);
    let genes =
        manifest(&[Gene { name: "add", cid: Some(cid.as_str()), ast: Some([1; 32]), ..Gene::default() }]);
    put(&top.path().join("chimera-output/manifest.json"), genes);
    let supply = supply(config);
    let nowhere = error(&supply, &Target::AstHash([1; 32])).await;
    assert_eq!(nowhere.reason(), Reason::ModuleNotFound);
    assert!(nowhere.to_string().contains(cid.as_str()), "{nowhere}");
    put(&laid(&top.path().join("cache"), cid.as_str(), "wasm"), MODULE);
    let module = supply.resolve("default", &Target::AstHash([1; 32])).await.unwrap();
    assert_eq!(module.source, SourceKind::Cache);
}

#[tokio::test]
async fn manifests_count_as_soon_as_they_are_written_changed_or_removed() {
    let (top, config) = fresh();
    let folder = top.path().join("chimera-output/below");
    let supply = supply(config);
    let ast = Target::AstHash([1; 32]);
    assert_eq!(error(&supply, &ast).await.reason(), Reason::ModuleNotFound);
    for bytes in [MODULE, OTHER, MODULE] {
        put(&folder.join("add.wasm"), bytes);
        let gene = Gene { name: "add", sha256: Some(digest(bytes)), ast: Some([1; 32]), ..Gene::default() };
        put(&folder.join("manifest.json"), manifest(&[gene]));
        until(async || supply.resolve("default", &ast).await.is_ok_and(|module| module.bytes == bytes)).await;
    }
    std::fs::remove_dir_all(&folder).unwrap();
    until(async || supply.resolve("default", &ast).await.is_err()).await;
}

/// Asks again until it holds; fails after ten seconds.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never came true");
}

#[tokio::test]
async fn manifests_that_disagree_on_an_ast_hash_are_refused_and_named() {
    let (top, mut config) = fresh();
    config.manifest_dirs = vec![top.path().join("one/out"), top.path().join("two/out")];
    for (folder, name, bytes) in [("one/out", "add", MODULE), ("two/out", "plus", OTHER)] {
        put(&top.path().join(folder).join(format!("{name}.wasm")), bytes);
        let gene = Gene { name, sha256: Some(digest(bytes)), ast: Some([1; 32]), ..Gene::default() };
        put(&top.path().join(folder).join("manifest.json"), manifest(&[gene]));
    }
    let supply = supply(config);
    let refusal = error(&supply, &Target::AstHash([1; 32])).await;
    assert_eq!(refusal.reason(), Reason::ModuleUnverified);
    let text = refusal.to_string();
    for part in ["\"add\" in out/manifest.json", "\"plus\" in out[2]/manifest.json", raw(OTHER).as_str()] {
        assert!(text.contains(part), "{text}");
    }
    // By CID each is what it is.
    assert!(supply.resolve("default", &by_bytes(OTHER)).await.is_ok());
}

#[tokio::test]
async fn an_ast_entry_whose_cid_and_sha256_lead_to_different_bytes_is_refused() {
    let vector = support::vectors().into_iter().find(|vector| vector.name == "v0-single").unwrap();
    let (top, config) = fresh();
    put(&laid(&top.path().join("cache"), &vector.v1(), "car"), vector.car_bytes());
    let gene = Gene { name: "x", cid: Some(&vector.cid), sha256: Some(digest(MODULE)), ast: Some([1; 32]) };
    put(&top.path().join("chimera-output/manifest.json"), manifest(&[gene]));
    let refusal = error(&supply(config), &Target::AstHash([1; 32])).await;
    assert_eq!(refusal.reason(), Reason::ModuleUnverified);
    assert!(refusal.to_string().contains("another sha256"), "{refusal}");
}

#[tokio::test]
async fn nothing_beside_a_manifest_is_taken_unverified_or_from_outside() {
    let (top, config) = fresh();
    let folder = top.path().join("chimera-output");
    put(&top.path().join("outside.wasm"), MODULE);
    std::fs::create_dir_all(&folder).unwrap();
    symlink("../outside.wasm", folder.join("link.wasm")).unwrap();
    put(&folder.join("wrong.wasm"), OTHER);
    let of = |name| Gene { name, sha256: Some(digest(MODULE)), ..Gene::default() };
    for (name, reason, said) in [
        ("link", Reason::ModuleNotFound, "leads out"),
        ("../outside", Reason::ModuleNotFound, "plain file name"),
        ("gone", Reason::ModuleNotFound, "not there"),
        ("wrong", Reason::ModuleUnverified, "other bytes"),
    ] {
        put(&folder.join("manifest.json"), manifest(&[of(name)]));
        let refusal = error(&supply(config.clone()), &by_bytes(MODULE)).await;
        assert_eq!(refusal.reason(), reason, "{refusal}");
        let text = refusal.to_string();
        assert!(text.contains(said), "{text}");
        assert!(!text.contains(top.path().to_str().unwrap()), "a host path is shown: {text}");
    }
    // The module is not at fault: with the right file it resolves.
    put(&folder.join("link2.wasm"), MODULE);
    put(&folder.join("manifest.json"), manifest(&[of("link2")]));
    assert!(supply(config).resolve("default", &by_bytes(MODULE)).await.is_ok());
}

#[tokio::test]
async fn manifests_that_are_broken_huge_or_links_do_not_hide_the_others() {
    let (top, config) = fresh();
    let folder = top.path().join("chimera-output");
    put(&folder.join("good/add.wasm"), MODULE);
    let gene = Gene { name: "add", sha256: Some(digest(MODULE)), ..Gene::default() };
    put(&folder.join("good/manifest.json"), manifest(&[gene]));
    put(&folder.join("broken/manifest.json"), "{\"genes\": [");
    put(&folder.join("huge/manifest.json"), vec![b' '; (16 << 20) + 1]);
    put(&top.path().join("elsewhere/manifest.json"), manifest(&[]));
    std::fs::create_dir_all(folder.join("linked")).unwrap();
    symlink("../../elsewhere/manifest.json", folder.join("linked/manifest.json")).unwrap();
    std::fs::create_dir_all(folder.join("pipe")).unwrap();
    nix::unistd::mkfifo(&folder.join("pipe/manifest.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink(top.path(), folder.join("folder-link")).unwrap();
    let supply = supply(config);
    assert!(supply.resolve("default", &by_bytes(MODULE)).await.is_ok());
    let text = error(&supply, &by_bytes(OTHER)).await.to_string();
    for part in ["none of 5 lists it", "broken/manifest.json: is not JSON", "huge/manifest.json: larger"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_cached_file_that_fails_is_removed_and_fetched_again() {
    let (top, mut config) = fresh();
    let cached = laid(&top.path().join("cache"), raw(MODULE).as_str(), "wasm");
    put(&cached, OTHER);
    let alone = supply(config.clone());
    let refusal = error(&alone, &by_bytes(MODULE)).await;
    assert_eq!(refusal.reason(), Reason::ModuleUnverified);
    assert!(refusal.to_string().contains("cache: held other bytes, removed"), "{refusal}");
    assert!(!cached.exists());

    put(&cached, OTHER);
    let server = gateway([(raw(MODULE).to_string(), MODULE.to_vec())].into(), None).await;
    config.gateways = vec![server.url.clone()];
    let online = supply(config);
    let module = online.resolve("default", &by_bytes(MODULE)).await.unwrap();
    assert_eq!(module.source, SourceKind::Gateway);
    until(async || std::fs::read(&cached).is_ok_and(|bytes| bytes == MODULE)).await;
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_costs_no_run() {
    let (top, mut config) = fresh();
    // Also for root no folder can be made below a file.
    put(&top.path().join("cache"), "a file");
    let server = gateway([(raw(MODULE).to_string(), MODULE.to_vec())].into(), None).await;
    config.gateways = vec![server.url.clone()];
    let supply = supply(config);
    let module = supply.resolve("default", &by_bytes(MODULE)).await.unwrap();
    assert_eq!(module.source, SourceKind::Gateway);
    until(async || supply.stats().cache_write_errors == 1).await;
}

/// A file system in memory that is too small for any module, and then read-only. Unmounted when it is dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(folder: std::path::PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&folder).unwrap();
        let options = "size=4k,nr_inodes=64";
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&folder)
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(folder)),
            other => {
                eprintln!("SKIPPED: no file system can be mounted here: {other:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_cache_folder_that_is_full_or_read_only_costs_no_run() {
    let (top, mut config) = fresh();
    let Some(disk) = SmallDisk::mount(top.path().join("cache")) else { return };
    let modules = [vec![1; 20_000], vec![2; 20_000]];
    let blocks = modules.iter().map(|module| (raw(module).to_string(), module.clone())).collect();
    let server = gateway(blocks, None).await;
    config.gateways = vec![server.url.clone()];
    let supply = supply(config);
    supply.resolve("default", &by_bytes(&modules[0])).await.unwrap();
    until(async || supply.stats().cache_write_errors == 1).await;
    assert!(!laid(&disk.0, raw(&modules[0]).as_str(), "wasm").exists(), "whole or not at all");

    let status = std::process::Command::new("mount").args(["-o", "remount,ro,size=1m"]).arg(&disk.0).status();
    assert!(status.unwrap().success());
    supply.resolve("default", &by_bytes(&modules[1])).await.unwrap();
    until(async || supply.stats().cache_write_errors == 2).await;
}

#[tokio::test]
async fn memory_answers_without_the_disk_and_keeps_its_bound() {
    let (top, mut config) = fresh();
    config.hot_max_bytes = 100_000;
    let supply = supply(config);
    let modules: Vec<Bytes> = (0..5u8).map(|n| Bytes::from(vec![n; 30_000])).collect();
    let cache = top.path().join("cache");
    for module in &modules {
        put(&laid(&cache, raw(module).as_str(), "wasm"), module);
    }
    let first = supply.resolve("default", &by_bytes(&modules[0])).await.unwrap();
    std::fs::remove_file(laid(&cache, &first.cid, "wasm")).unwrap();
    for module in &modules[1..] {
        supply.resolve("default", &by_bytes(module)).await.unwrap();
        // Used all the time, so it is never the one that goes.
        let again = supply.resolve("any tenant", &by_bytes(&modules[0])).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again));
    }
    let stats = supply.stats();
    assert_eq!((stats.memory_modules, stats.memory_hits), (3, 4));
    assert!(stats.memory_bytes <= 100_000);
    assert_eq!(stats.source(SourceKind::Cache).found, 5);
    assert_eq!(stats.source(SourceKind::Manifest).absent, 5, "asked before the cache");
}

#[tokio::test]
async fn an_upload_that_the_disk_changed_is_not_used_and_heals() {
    let (top, config) = fresh();
    supply(config.clone()).upload("t", Bytes::from_static(MODULE)).await.unwrap();
    let name = hex::encode(digest(MODULE));
    let file = top.path().join("state/modules/t").join(&name[..2]).join(format!("{name}.wasm"));
    std::fs::write(&file, OTHER).unwrap();
    let supply = supply(config);
    let refusal = supply.resolve("t", &by_bytes(MODULE)).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::ModuleUnverified);
    assert!(refusal.to_string().contains("uploads: held other bytes, removed"), "{refusal}");
    assert!(supply.upload("t", Bytes::from_static(MODULE)).await.unwrap().new);
    assert!(supply.resolve("t", &by_bytes(MODULE)).await.is_ok());
}

/// That it is too large is a source's word, and nobody has verified it: the reason is the same wherever it is said.
#[tokio::test]
async fn what_is_too_large_is_missing_whichever_source_has_it() {
    let (top, mut config) = fresh();
    supply(config.clone()).upload("default", Bytes::from_static(OTHER)).await.unwrap();
    config.max_file_size = 10;
    let cached = laid(Path::new(&top.path().join("cache")), raw(OTHER).as_str(), "wasm");
    put(&cached, OTHER);
    let folder = top.path().join("chimera-output");
    put(&folder.join("other.wasm"), OTHER);
    let gene = Gene { name: "other", sha256: Some(digest(OTHER)), ..Gene::default() };
    put(&folder.join("manifest.json"), manifest(&[gene]));
    let having: std::collections::HashMap<_, _> = [(raw(OTHER).to_string(), OTHER.to_vec())].into();
    let node = kubo(having.clone()).await;
    let server = gateway(having, None).await;
    config.ipfs_api = Some(node.url.clone());
    config.gateways = vec![server.url.clone()];
    let refusal = error(&supply(config.clone()), &by_bytes(OTHER)).await;
    assert_eq!(refusal.reason(), Reason::ModuleNotFound, "{refusal}");
    let too_large = ["larger than allowed", "more than the 10 bytes allowed"];
    let saying = |answer: &&void_module::Answer| too_large.iter().any(|said| answer.said.contains(said));
    assert_eq!(refusal.answers().iter().filter(saying).count(), 5, "{refusal}");
    assert_eq!(std::fs::read(&cached).unwrap(), OTHER, "what was not compared stays for others");
    // One that is too large does not stand in the way of the right one.
    config.max_file_size = 100;
    config.manifest_dirs.clear();
    put(&cached, vec![0; 101]);
    let module = supply(config).resolve("somebody", &by_bytes(OTHER)).await.unwrap();
    assert_eq!(module.source, SourceKind::Ipfs);
    until(async || std::fs::read(&cached).is_ok_and(|bytes| bytes == OTHER)).await;
}

#[tokio::test]
async fn a_new_entry_counts_at_once_however_often_was_asked_before() {
    let (top, mut config) = fresh();
    // So long that only the look after a miss can be what finds it.
    config.manifest_recheck = std::time::Duration::from_secs(3600);
    let folder = top.path().join("chimera-output");
    let supply = supply(config);
    let mut genes = Vec::new();
    for n in 0..10u8 {
        let (module, ast) = (vec![n; 20], Target::AstHash([n; 32]));
        assert!(supply.resolve("default", &ast).await.is_err());
        assert!(supply.resolve("default", &by_bytes(&module)).await.is_err());
        put(&folder.join(format!("{n}.wasm")), &module);
        genes.push((n.to_string(), digest(&module), [n; 32]));
        let listed: Vec<_> = genes
            .iter()
            .map(|(name, sha256, ast)| Gene { name, sha256: Some(*sha256), ast: Some(*ast), cid: None })
            .collect();
        put(&folder.join("manifest.json"), manifest(&listed));
        let found = match n % 2 {
            0 => supply.resolve("default", &ast).await,
            _ => supply.resolve("default", &by_bytes(&module)).await,
        };
        assert_eq!(found.unwrap().bytes, module);
    }
    // Each is missed once and found once by its bytes' name, and an AST hash that is not listed asks no source.
    let stats = supply.stats();
    let manifests = stats.source(SourceKind::Manifest);
    assert_eq!((manifests.absent, manifests.found), (10, 10));
}

#[tokio::test]
async fn who_misses_together_waits_for_one_look() {
    let (_top, config) = fresh();
    let supply = supply(config);
    let begun = std::time::Instant::now();
    for _ in 0..4 {
        let targets: Vec<Target> = (0..50u8).map(|n| Target::AstHash([n; 32])).collect();
        let all = targets.iter().map(|target| supply.resolve("default", target));
        assert!(futures_util::future::join_all(all).await.iter().all(Result::is_err));
    }
    let took = begun.elapsed();
    // Three waits of at most 50 ms: the first finds no look before it.
    assert!((140..1500).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn a_gene_whose_name_is_no_file_name_is_found_by_its_cid() {
    let (top, config) = fresh();
    let folder = top.path().join("chimera-output");
    let cid = raw(MODULE);
    let gene = Gene { name: "@org/add", cid: Some(cid.as_str()), ast: Some([1; 32]), ..Gene::default() };
    put(&folder.join("manifest.json"), manifest(&[gene]));
    put(&laid(&folder, cid.as_str(), "wasm"), MODULE);
    let module = supply(config).resolve("default", &Target::AstHash([1; 32])).await.unwrap();
    assert_eq!((module.source, &module.bytes[..]), (SourceKind::Manifest, MODULE));
}

#[tokio::test]
async fn a_changed_entry_counts_within_the_bound_while_others_ask_all_the_time() {
    let (top, config) = fresh();
    let (folder, bound) = (top.path().join("chimera-output"), config.manifest_recheck);
    let supply = supply(config);
    let asking = tokio::spawn({
        let supply = supply.clone();
        async move {
            loop {
                let _ = supply.resolve("other", &Target::AstHash([1; 32])).await;
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    });
    for bytes in [MODULE, OTHER, MODULE, OTHER] {
        let name = hex::encode(digest(bytes));
        put(&folder.join(format!("{name}.wasm")), bytes);
        let gene = Gene { name: &name, sha256: Some(digest(bytes)), ast: Some([1; 32]), ..Gene::default() };
        put(&folder.join("manifest.json"), manifest(&[gene]));
        tokio::time::sleep(bound).await;
        let module = supply.resolve("default", &Target::AstHash([1; 32])).await.unwrap();
        assert_eq!(module.bytes, bytes);
    }
    asking.abort();
}
