//! Files, DAGs and CARs that the JavaScript IPFS libraries made, by every way in which they can come.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::HashMap;

use support::{
    Gene, Reply, Server, Vector, asked_cid, by_cid, digest, fresh, gateway, kubo, laid, manifest, put,
    supply, vectors,
};
use void_api::Reason;
use void_module::{Module, SourceKind};

fn check(vector: &Vector, module: &Module) {
    let content = vector.content();
    assert_eq!(hex::encode(digest(&content)), vector.sha256, "{}", vector.name);
    assert!(module.bytes == content, "{}", vector.name);
    assert_eq!(module.sha256, digest(&content));
    assert_eq!(module.cid, support::raw(&content).as_str());
}

fn files() -> impl Iterator<Item = Vector> {
    vectors().into_iter().filter(|vector| vector.kind == "file")
}

#[tokio::test]
async fn files_by_car_by_blocks_and_by_kubo_and_then_from_the_cache() {
    let mut seen = 0;
    for vector in files().filter(|vector| vector.car) {
        let cars = HashMap::from([(vector.cid.clone(), vector.car_bytes())]);
        let by_car = gateway(HashMap::new(), Some(cars)).await;
        let by_block = gateway(vector.blocks(), None).await;
        let node = kubo(vector.blocks()).await;
        for (kind, server) in
            [(SourceKind::Gateway, by_car), (SourceKind::Gateway, by_block), (SourceKind::Ipfs, node)]
        {
            let (top, mut config) = fresh();
            match kind {
                SourceKind::Ipfs => config.ipfs_api = Some(server.url.clone()),
                _ => config.gateways = vec![server.url.clone()],
            }
            let mut offline = config.clone();
            let online = supply(config);
            let module = online.resolve("default", &vector.target()).await.unwrap();
            check(&vector, &module);
            assert_eq!(module.source, kind);
            // Asked by the bytes' own CID it is the same module, in memory.
            let again = online.resolve("default", &by_cid(&module.cid)).await.unwrap();
            assert!(std::sync::Arc::ptr_eq(&module, &again));

            let cached = laid(&top.path().join("cache"), &vector.v1(), "car");
            written(&cached).await;
            offline.ipfs_api = None;
            offline.gateways = Vec::new();
            let module = supply(offline).resolve("default", &vector.target()).await.unwrap();
            check(&vector, &module);
            assert_eq!(module.source, SourceKind::Cache);
            seen += 1;
        }
    }
    assert!(seen >= 18);
}

/// The cache is written behind the answer.
async fn written(path: &std::path::Path) {
    for _ in 0..400 {
        if path.exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{} is not written", path.display());
}

#[tokio::test]
async fn dags_that_are_no_module_are_refused_by_name_whoever_has_them() {
    let mut seen = 0;
    for vector in vectors().into_iter().filter(|vector| vector.kind == "refused") {
        let cars = HashMap::from([(vector.cid.clone(), vector.car_bytes())]);
        let by_car = gateway(HashMap::new(), Some(cars)).await;
        let node = kubo(vector.blocks()).await;
        let (_top, mut first) = fresh();
        let mut second = first.clone();
        first.gateways = vec![by_car.url.clone()];
        second.ipfs_api = Some(node.url.clone());
        for config in [first, second] {
            let error = supply(config).resolve("default", &vector.target()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::ModuleInvalid, "{}: {error}", vector.name);
            assert!(error.to_string().contains(&vector.refused), "{}: {error}", vector.name);
            seen += 1;
        }
    }
    assert!(seen >= 24);
}

#[tokio::test]
async fn cars_that_are_cut_or_changed_are_never_taken() {
    let vector = files().find(|vector| vector.name == "v0-levels").unwrap();
    let car = vector.car_bytes();
    let offer = async |car: Vec<u8>| {
        let server = gateway(HashMap::new(), Some(HashMap::from([(vector.cid.clone(), car)]))).await;
        let (_top, mut config) = fresh();
        config.gateways = vec![server.url.clone()];
        supply(config).resolve("default", &vector.target()).await
    };
    assert!(offer(car.clone()).await.is_ok());
    for cut in (0..car.len()).step_by(car.len() / 23).chain([1, 58, 59, car.len() - 1]) {
        let error = offer(car[..cut].to_vec()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ModuleNotFound, "cut at {cut}: {error}");
    }
    for at in (100..car.len()).step_by(car.len() / 23) {
        let mut changed = car.clone();
        changed[at] ^= 0x40;
        let error = offer(changed).await.unwrap_err();
        let reason = error.reason();
        assert!(
            matches!(reason, Reason::ModuleUnverified | Reason::ModuleNotFound),
            "changed at {at}: {error}"
        );
    }
}

#[tokio::test]
async fn a_cached_car_that_fails_is_removed_and_fetched_again() {
    let vector = files().find(|vector| vector.name == "v1-levels").unwrap();
    let (top, mut config) = fresh();
    let node = kubo(vector.blocks()).await;
    config.ipfs_api = Some(node.url.clone());
    let cached = laid(&top.path().join("cache"), &vector.v1(), "car");
    let mut changed = vector.car_bytes();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    put(&cached, &changed);
    let online = supply(config);
    let module = online.resolve("default", &vector.target()).await.unwrap();
    check(&vector, &module);
    assert_eq!(module.source, SourceKind::Ipfs);
    for _ in 0..400 {
        if std::fs::read(&cached).is_ok_and(|bytes| bytes != changed) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the cached file was not replaced");
}

#[tokio::test]
async fn a_whole_file_is_recognised_by_its_root_as_the_common_importers_cut_it() {
    let mut seen = 0;
    for vector in files().filter(|vector| vector.layout) {
        let content = vector.content();
        let (top, config) = fresh();
        let folder = top.path().join("chimera-output");
        put(&folder.join("gene.wasm"), &content);
        let genes = manifest(&[Gene { name: "gene", cid: Some(&vector.cid), ..Gene::default() }]);
        put(&folder.join("manifest.json"), &genes);
        let module = supply(config.clone()).resolve("default", &vector.target()).await.unwrap();
        check(&vector, &module);
        assert_eq!(module.source, SourceKind::Manifest);

        std::fs::remove_dir_all(&folder).unwrap();
        put(&laid(&top.path().join("cache"), &vector.v1(), "wasm"), &content);
        let module = supply(config.clone()).resolve("default", &vector.target()).await.unwrap();
        assert_eq!(module.source, SourceKind::Cache);
        check(&vector, &module);

        // Laid out under its CID in either form, in the cache and beside a manifest, whatever form is asked for.
        let other_form = by_cid(&vector.v1());
        for form in [vector.v1(), vector.cid.clone()] {
            std::fs::remove_dir_all(top.path().join("cache")).unwrap();
            put(&laid(&top.path().join("cache"), &form, "wasm"), &content);
            for target in [&vector.target(), &other_form] {
                let module = supply(config.clone()).resolve("default", target).await.unwrap();
                assert_eq!(module.source, SourceKind::Cache);
            }
            put(&laid(&folder, &form, "wasm"), &content);
            put(&folder.join("manifest.json"), &genes);
            for target in [&vector.target(), &other_form] {
                let module = supply(config.clone()).resolve("default", target).await.unwrap();
                assert_eq!(module.source, SourceKind::Manifest);
                check(&vector, &module);
            }
            std::fs::remove_dir_all(&folder).unwrap();
        }

        let mut other = content;
        other[0] ^= 1;
        let cached = laid(&top.path().join("cache"), &vector.v1(), "wasm");
        std::fs::remove_dir_all(top.path().join("cache")).unwrap();
        put(&cached, &other);
        let error = supply(config).resolve("default", &vector.target()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ModuleUnverified);
        assert!(error.to_string().contains("cache: cannot be compared with the CID"), "{error}");
        assert_eq!(std::fs::read(&cached).unwrap(), other, "what was not compared stays for others");
        seen += 1;
    }
    assert!(seen >= 5);
}

#[tokio::test]
async fn a_cached_file_cut_in_no_usual_way_stays_and_the_module_is_fetched() {
    let vector = files().find(|vector| vector.name == "v1-trickle").unwrap();
    let (top, mut config) = fresh();
    let cached = laid(&top.path().join("cache"), &vector.v1(), "wasm");
    put(&cached, vector.content());
    let node = kubo(vector.blocks()).await;
    config.ipfs_api = Some(node.url.clone());
    let module = supply(config.clone()).resolve("default", &vector.target()).await.unwrap();
    assert_eq!(module.source, SourceKind::Ipfs);
    check(&vector, &module);
    // Its blocks are kept beside it, and answer from then on.
    config.ipfs_api = None;
    let mut kept = None;
    for _ in 0..400 {
        kept = supply(config.clone()).resolve("default", &vector.target()).await.ok();
        if kept.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(kept.map(|module| module.source), Some(SourceKind::Cache));
    assert_eq!(std::fs::read(&cached).unwrap(), vector.content());
}

#[tokio::test]
async fn a_file_cut_in_no_usual_way_is_not_taken_for_its_cid_and_the_way_out_is_named() {
    let vector = files().find(|vector| vector.name == "v1-trickle").unwrap();
    let (top, config) = fresh();
    let folder = top.path().join("chimera-output");
    let sha256 = digest(&vector.content());
    put(&folder.join("gene.wasm"), vector.content());
    let gene = Gene { name: "gene", cid: Some(&vector.cid), sha256: Some(sha256), ..Gene::default() };
    put(&folder.join("manifest.json"), manifest(&[gene]));
    let supply = supply(config);
    let error = supply.resolve("default", &vector.target()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ModuleUnverified);
    assert!(
        error.to_string().contains("gene.wasm has the sha256 that is listed, but cannot be compared"),
        "{error}"
    );
    check(&vector, &supply.resolve("default", &void_api::Target::Sha256(sha256)).await.unwrap());
    put(&folder.join("gene.wasm"), b"other");
    let error = supply.resolve("default", &vector.target()).await.unwrap_err().to_string();
    assert!(error.contains("it holds other bytes, or was cut in no usual way"), "{error}");
}

#[tokio::test]
async fn a_cid_is_asked_for_and_told_in_the_form_it_came_in() {
    let vector = files().find(|vector| vector.name == "v0-levels").unwrap();
    assert!(vector.cid.starts_with("Qm") && vector.blocks().keys().all(|cid| cid.starts_with("Qm")));
    for (form, other) in [(vector.cid.clone(), vector.v1()), (vector.v1(), vector.cid.clone())] {
        let node = kubo(HashMap::new()).await;
        let empty = gateway(HashMap::new(), None).await;
        let (_top, mut config) = fresh();
        config.ipfs_api = Some(node.url.clone());
        config.gateways = vec![empty.url.clone()];
        let error = supply(config).resolve("default", &by_cid(&form)).await.unwrap_err().to_string();
        assert!(error.contains(&form) && !error.contains(&other), "{error}");
        let seen = [node.seen(), empty.seen()].concat();
        assert!(seen.len() == 3 && seen.iter().all(|request| asked_cid(request) == form), "{seen:?}");
    }
}

#[tokio::test]
async fn requests_for_one_dag_in_two_forms_are_one_fetch() {
    let vector = files().find(|vector| vector.name == "v0-single").unwrap();
    let block = vector.blocks()[&vector.cid].clone();
    let server = Server::start(move |request| match request.contains("format=car") {
        true => Reply::Late(std::time::Duration::from_millis(300), block.clone()),
        false => Reply::Status(404),
    })
    .await;
    let (_top, mut config) = fresh();
    config.gateways = vec![server.url.clone()];
    let supply = supply(config);
    let (v0, v1) = (by_cid(&vector.cid), by_cid(&vector.v1()));
    let (one, two) = tokio::join!(supply.resolve("default", &v0), supply.resolve("other", &v1));
    assert!(std::sync::Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
    assert_eq!(server.seen().len(), 1, "{:?}", server.seen());
}

/// What a gateway answers to a request for a CAR, while it has the blocks.
#[tokio::test]
async fn a_gateway_without_cars_is_walked_block_by_block_whatever_it_says_of_them() {
    let vector = files().find(|vector| vector.name == "v0-levels").unwrap();
    let (blocks, content) = (vector.blocks(), vector.content());
    let root = blocks[&vector.cid].clone();
    let car = vector.car_bytes();
    let answers = [
        Reply::Status(404),
        Reply::Status(406),
        Reply::Status(410),
        Reply::Status(400),
        Reply::Status(500),
        Reply::Redirect("http://elsewhere.example/".into()),
        // One that does not look at the form that is asked for: the block, the file, a page.
        Reply::Bytes(root),
        Reply::Bytes(content),
        Reply::Html("<h1>hello</h1>".into()),
        // One that finds in the middle that it lacks a block, in three ways, and one with a wrong block.
        Reply::Bytes(car[..car.len() / 2].to_vec()),
        Reply::Bytes(first_blocks(&car, 3)),
        Reply::Short(car[..car.len() / 2].to_vec(), car.len() as u64),
        Reply::Bytes([&car[..car.len() - 1], &[car[car.len() - 1] ^ 1]].concat()),
        Reply::Claim(100 << 20),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        let blocks = blocks.clone();
        let server = Server::start(move |request| {
            if request.contains("format=car") {
                return answer.clone();
            }
            blocks.get(asked_cid(request)).map_or(Reply::Status(404), |bytes| Reply::Bytes(bytes.clone()))
        })
        .await;
        let (_top, mut config) = fresh();
        config.gateways = vec![server.url.clone()];
        let module = supply(config).resolve("default", &vector.target()).await;
        check(&vector, &module.unwrap_or_else(|error| panic!("answer {number}: {error}")));
        let roots = server.seen().iter().filter(|request| asked_cid(request) == vector.cid).count();
        assert!(roots <= 2, "the root is asked for once as a CAR and once as a block: {:?}", server.seen());
    }
}

/// A CAR that ends after so many blocks.
fn first_blocks(car: &[u8], count: usize) -> Vec<u8> {
    let mut end = 0;
    // The header stands before them, with its length as they have theirs.
    for _ in 0..=count {
        let (mut size, mut shift) = (0, 0);
        loop {
            let byte = car[end];
            end += 1;
            size |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                break;
            }
        }
        end += size;
    }
    assert!(end < car.len());
    car[..end].to_vec()
}

#[tokio::test]
async fn a_gateway_that_is_overloaded_is_not_asked_block_by_block() {
    let vector = files().find(|vector| vector.name == "v0-levels").unwrap();
    let server = Server::start(|_| Reply::RetryAfter(429, "7".into())).await;
    let (_top, mut config) = fresh();
    config.gateways = vec![server.url.clone()];
    supply(config).resolve("default", &vector.target()).await.unwrap_err();
    assert_eq!(server.seen().len(), 1);
}

/// No DAG can have a cycle without a broken hash, so this is how one is feigned: every link leads to the root again.
#[tokio::test]
async fn a_circle_of_blocks_is_a_lie_at_its_first_link() {
    let vector = files().find(|vector| vector.name == "v0-levels").unwrap();
    let root = vector.blocks()[&vector.cid].clone();
    let server = Server::start(move |request| match request.contains("format=car") {
        true => Reply::Status(406),
        false => Reply::Bytes(root.clone()),
    })
    .await;
    let (_top, mut config) = fresh();
    config.gateways = vec![server.url.clone()];
    let error = supply(config).resolve("default", &vector.target()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ModuleUnverified, "{error}");
    assert!(server.seen().len() < 16, "{:?}", server.seen());
}
