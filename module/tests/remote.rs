//! Kubo and gateways over real sockets: the order, what a bad one can do, and one fetch for all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::{Reply, Server, by_bytes, fresh, gateway, kubo, laid, put, raw, supply};
use void_api::{Reason, Target};
use void_module::{SourceKind, SupplyConfig, SupplyError};

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const OTHER: &[u8] = b"\0asm\x01\0\0\0other";

fn having(bytes: &[u8]) -> HashMap<String, Vec<u8>> {
    HashMap::from([(raw(bytes).to_string(), bytes.to_vec())])
}

#[tokio::test]
async fn sources_are_asked_in_order_and_each_answer_is_told() {
    let (top, mut config) = fresh();
    let node = kubo(HashMap::new()).await;
    let empty = gateway(HashMap::new(), None).await;
    let full = gateway(having(MODULE), None).await;
    config.ipfs_api = Some(node.url.clone());
    config.gateways = vec![empty.url.clone(), format!("{}/ipfs/", full.url)];
    let supply = supply(config);
    let module = supply.resolve("default", &by_bytes(MODULE)).await.unwrap();
    assert_eq!((module.source, module.fetched_from.as_deref()), (SourceKind::Gateway, Some(full.host())));
    let cid = raw(MODULE).to_string();
    assert_eq!(node.seen(), [format!("POST /api/v0/block/get?arg={cid}")]);
    assert_eq!(empty.seen(), [format!("GET /ipfs/{cid}?format=raw")]);
    assert_eq!(full.seen(), empty.seen());

    let missing = supply.resolve("default", &by_bytes(OTHER)).await.unwrap_err();
    assert_eq!(missing.reason(), Reason::ModuleNotFound);
    let names: Vec<&str> = missing.answers().iter().map(|answer| answer.name.as_str()).collect();
    assert_eq!(names, ["uploads", "manifests", "cache", "IPFS API", empty.host(), full.host()]);
    let text = missing.to_string();
    assert!(text.contains("answered 404") && text.contains("answered 500"), "{text}");
    assert!(!text.contains(top.path().to_str().unwrap()) && !text.contains(node.host()), "{text}");
}

/// What a gateway did, the reason when it is alone, and a word of what is said.
async fn bad(reply: Reply, reason: Reason, said: &str) {
    let bad = Server::start(move |_| reply.clone()).await;
    let good = gateway(having(MODULE), None).await;
    let (_top, mut config) = fresh();
    config.fetch_timeout = Duration::from_millis(400);
    config.max_file_size = 1 << 20;
    config.gateways = vec![bad.url.clone()];
    let begun = Instant::now();
    let error = supply(config.clone()).resolve("default", &by_bytes(MODULE)).await.unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    assert!(error.to_string().contains(said), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{said}: {:?}", begun.elapsed());
    // The next source is asked, whatever this one did.
    config.gateways.push(good.url.clone());
    let module = supply(config).resolve("default", &by_bytes(MODULE)).await.unwrap();
    assert_eq!(module.bytes, MODULE);
    assert_eq!(module.fetched_from.as_deref(), Some(good.host()));
}

#[tokio::test]
async fn a_gateway_that_sends_other_bytes() {
    bad(Reply::Bytes(OTHER.to_vec()), Reason::ModuleUnverified, "delivered other bytes").await;
}

#[tokio::test]
async fn a_gateway_that_sends_nothing_where_bytes_belong() {
    bad(Reply::Bytes(Vec::new()), Reason::ModuleUnverified, "delivered other bytes").await;
}

#[tokio::test]
async fn a_gateway_that_sends_a_web_page() {
    bad(Reply::Html("<h1>hello</h1>".into()), Reason::ModuleUnverified, "delivered a web page").await;
}

#[tokio::test]
async fn a_gateway_that_never_answers() {
    bad(Reply::Hang, Reason::ModuleNotFound, "within 400 ms").await;
}

#[tokio::test]
async fn a_gateway_that_answers_byte_by_byte() {
    bad(Reply::Slow(vec![0; 1000], Duration::from_millis(50)), Reason::ModuleNotFound, "within 400 ms").await;
}

#[tokio::test]
async fn a_gateway_that_sends_without_end() {
    bad(Reply::Forever, Reason::ModuleNotFound, "offered more than the 1048576 bytes").await;
}

#[tokio::test]
async fn a_gateway_that_announces_50_megabytes_too_much() {
    bad(Reply::Claim(50 << 20), Reason::ModuleNotFound, "offered more than").await;
}

#[tokio::test]
async fn a_gateway_that_breaks_off() {
    bad(Reply::Short(MODULE[..4].to_vec(), 8), Reason::ModuleNotFound, "broke off").await;
}

#[tokio::test]
async fn a_gateway_that_redirects_in_a_circle() {
    bad(Reply::Redirect("/round".into()), Reason::ModuleNotFound, "redirects without end").await;
}

#[tokio::test]
async fn a_gateway_that_redirects_to_another_host_is_not_followed() {
    let inside = gateway(having(MODULE), None).await;
    bad(Reply::Redirect(inside.url.clone()), Reason::ModuleNotFound, "out of its site").await;
    assert!(inside.seen().is_empty());
}

#[tokio::test]
async fn a_redirect_within_the_site_is_followed() {
    let cid = raw(MODULE).to_string();
    let server = Server::start(move |request| {
        if request.starts_with("GET /moved/") {
            Reply::Bytes(MODULE.to_vec())
        } else {
            Reply::Redirect(format!("/moved/{cid}"))
        }
    })
    .await;
    let (_top, mut config) = fresh();
    config.gateways = vec![server.url.clone()];
    assert!(supply(config).resolve("default", &by_bytes(MODULE)).await.is_ok());
}

#[tokio::test]
async fn a_kubo_that_lies_is_passed_over() {
    let node = Server::start(|_| Reply::Bytes(OTHER.to_vec())).await;
    let (_top, mut config) = fresh();
    config.ipfs_api = Some(node.url.clone());
    let error = supply(config.clone()).resolve("default", &by_bytes(MODULE)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ModuleUnverified);
    let good = gateway(having(MODULE), None).await;
    config.gateways = vec![good.url.clone()];
    assert!(supply(config).resolve("default", &by_bytes(MODULE)).await.is_ok());
}

#[tokio::test]
async fn wrong_bytes_from_every_source_are_all_told_and_none_is_used() {
    let (top, mut config) = fresh();
    let cid = raw(MODULE).to_string();
    let folder = top.path().join("chimera-output");
    put(&folder.join("add.wasm"), OTHER);
    let gene = support::Gene { name: "add", cid: Some(&cid), ..support::Gene::default() };
    put(&folder.join("manifest.json"), support::manifest(&[gene]));
    put(&laid(&top.path().join("cache"), &cid, "wasm"), OTHER);
    let liar = Server::start(|_| Reply::Bytes(OTHER.to_vec())).await;
    supply(config.clone()).upload("default", Bytes::from_static(MODULE)).await.unwrap();
    let name = hex::encode(support::digest(MODULE));
    put(&top.path().join("state/modules/default").join(&name[..2]).join(format!("{name}.wasm")), OTHER);
    config.ipfs_api = Some(liar.url.clone());
    config.gateways = vec![liar.url.clone()];
    let error = supply(config).resolve("default", &by_bytes(MODULE)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ModuleUnverified);
    let wrong = error.answers().iter().filter(|answer| answer.said.contains("other bytes")).count();
    assert_eq!(wrong, 5, "{error}");
}

#[tokio::test]
async fn a_failing_source_is_left_out_for_a_while() {
    let failing = Server::start(|_| Reply::Status(503)).await;
    let asked_to_wait = Server::start(|_| Reply::RetryAfter(429, "100".into())).await;
    let (_top, mut config) = fresh();
    config.gateways = vec![failing.url.clone(), asked_to_wait.url.clone()];
    let supply = supply(config);
    for n in 0..3 {
        // Whoever asks, and whatever for: it is the source's own.
        supply.resolve(&n.to_string(), &by_bytes(&[n])).await.unwrap_err();
    }
    assert_eq!((failing.seen().len(), asked_to_wait.seen().len()), (3, 1));
    let error = supply.resolve("default", &by_bytes(MODULE)).await.unwrap_err();
    assert!(error.to_string().contains("left out for 1 s"), "{error}");
    assert!(error.to_string().contains("left out for 100 s"), "{error}");
    assert_eq!((failing.seen().len(), asked_to_wait.seen().len()), (3, 1));
    assert_eq!(supply.stats().source(SourceKind::Gateway).left_out, 4);
}

#[tokio::test]
async fn one_bad_moment_of_a_source_costs_the_run_that_met_it_alone() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Reply::Status(503),
        _ => Reply::Bytes(MODULE.to_vec()),
    })
    .await;
    let (_top, mut config) = fresh();
    config.gateways = vec![server.url.clone()];
    let supply = supply(config);
    supply.resolve("default", &by_bytes(MODULE)).await.unwrap_err();
    assert!(supply.resolve("default", &by_bytes(MODULE)).await.is_ok());
}

/// A gateway that answers so for whatever it does not have: a tenant that asks for that again and again takes it from itself
/// alone.
async fn takes_it_from_itself(reply: Reply, said: &str) {
    let good: Vec<Vec<u8>> = (0..8u8).map(|n| vec![n; 9]).collect();
    let has: HashMap<String, Vec<u8>> =
        good.iter().map(|bytes| (raw(bytes).to_string(), bytes.clone())).collect();
    let server = Server::start(move |request| {
        has.get(support::asked_cid(request)).map_or(reply.clone(), |bytes| Reply::Bytes(bytes.clone()))
    })
    .await;
    let (_top, mut config) = fresh();
    config.fetch_timeout = Duration::from_millis(500);
    config.max_file_size = 1 << 20;
    config.gateways = vec![server.url.clone()];
    let supply = supply(config);
    let dag = Target::Cid(void_api::CidText::dag_pb(support::digest(OTHER)));
    let mut left_out = 0;
    for (n, bytes) in good.iter().enumerate() {
        // By one name and by different ones, a DAG's and a file's.
        let target = if n % 2 == 0 { dag.clone() } else { by_bytes(&[n as u8]) };
        let error = supply.resolve("loud", &target).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ModuleNotFound, "{error}");
        if error.answers().iter().any(|answer| answer.left_out) {
            left_out += 1;
        } else {
            assert!(error.to_string().contains(said), "{error}");
        }
        let module = supply.resolve("quiet", &by_bytes(bytes)).await;
        assert!(module.is_ok(), "{said}, after {n}: {}", module.unwrap_err());
    }
    assert!(left_out >= 3, "the loud one is left out itself, {left_out} times");
}

#[tokio::test]
async fn what_a_tenant_asks_for_takes_no_source_from_the_others() {
    for (reply, said) in [
        (Reply::Status(500), "answered 500"),
        (Reply::Status(403), "answered 403"),
        (Reply::Redirect("http://blocked.example/".into()), "answered 302, a redirect out of its site"),
        (Reply::Redirect("/round".into()), "redirects without end"),
        (Reply::Short(vec![7], 100), "broke off"),
        (Reply::Forever, "offered more than"),
        (Reply::Claim(50 << 20), "offered more than"),
        (Reply::RetryAfter(504, "30".into()), "answered 504"),
    ] {
        takes_it_from_itself(reply, said).await;
    }
}

#[tokio::test]
async fn a_redirect_to_where_nobody_is_takes_a_source_from_nobody() {
    // A name below the gateway's own, as gateways with a subdomain for each CID redirect to; it does not exist.
    let port = std::sync::Arc::new(std::sync::OnceLock::new());
    let seen_port = port.clone();
    let server = Server::start(move |request| {
        if request.contains(raw(MODULE).as_str()) {
            return Reply::Bytes(MODULE.to_vec());
        }
        Reply::Redirect(format!("http://{}.localhost:{}/", "x".repeat(64), seen_port.get().unwrap()))
    })
    .await;
    let (_, number) = server.host().rsplit_once(':').unwrap();
    port.set(number.to_owned()).unwrap();
    let (_top, mut config) = fresh();
    config.gateways = vec![format!("http://localhost:{number}")];
    let supply = supply(config);
    for n in 0..4 {
        let error = supply.resolve("loud", &by_bytes(&[n])).await.unwrap_err().to_string();
        assert!(error.contains("redirects to where nobody is") || error.contains("left out"), "{error}");
    }
    assert!(supply.resolve("quiet", &by_bytes(MODULE)).await.is_ok());
}

#[tokio::test]
async fn a_pause_that_a_source_asks_for_counts_as_a_date_too_and_with_a_time_out_for_who_met_it() {
    let in_a_minute = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(60));
    for (status, for_all) in [(429, true), (503, true), (504, false), (500, false)] {
        let after = in_a_minute.clone();
        let server = Server::start(move |_| Reply::RetryAfter(status, after.clone())).await;
        let (_top, mut config) = fresh();
        config.gateways = vec![server.url.clone()];
        let supply = supply(config);
        for tenant in ["one", "one", "another"] {
            supply.resolve(tenant, &by_bytes(MODULE)).await.unwrap_err();
        }
        assert_eq!(server.seen().len(), if for_all { 1 } else { 2 }, "{status}: {:?}", server.seen());
    }
}

#[tokio::test]
async fn not_having_a_module_is_no_failure() {
    let empty = gateway(HashMap::new(), None).await;
    let (_top, mut config) = fresh();
    config.gateways = vec![empty.url.clone()];
    let supply = supply(config);
    for _ in 0..5 {
        supply.resolve("default", &by_bytes(MODULE)).await.unwrap_err();
    }
    assert_eq!(empty.seen().len(), 5);
}

#[test]
fn one_fetch_serves_all_threads_that_ask_at_once() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server =
        runtime.block_on(Server::start(|_| Reply::Late(Duration::from_millis(300), MODULE.to_vec())));
    let (_top, mut config) = fresh();
    config.gateways = vec![server.url.clone()];
    let supply = supply(config);
    let lanes: Vec<_> = (0..8)
        .map(|lane| {
            let supply = supply.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let (tenant, target) = (format!("tenant {lane}"), by_bytes(MODULE));
                let resolves = (0..25).map(|_| supply.resolve(&tenant, &target));
                let all = runtime.block_on(futures_util::future::join_all(resolves));
                all.into_iter().all(|module| module.is_ok_and(|module| module.bytes == MODULE))
            })
        })
        .collect();
    assert!(lanes.into_iter().all(|lane| lane.join().unwrap()));
    assert_eq!(server.seen().len(), 1);
    // The last clone may go on a thread of another runtime.
    runtime.block_on(async move { drop(supply) });
}

#[tokio::test]
async fn a_fetch_goes_on_when_who_asked_is_gone() {
    let server = Server::start(|_| Reply::Late(Duration::from_millis(200), MODULE.to_vec())).await;
    let (_top, mut config) = fresh();
    config.gateways = vec![server.url.clone()];
    let supply = supply(config);
    let target = by_bytes(MODULE);
    let gone = tokio::time::timeout(Duration::from_millis(50), supply.resolve("default", &target)).await;
    assert!(gone.is_err());
    let module = supply.resolve("default", &target).await.unwrap();
    assert_eq!(module.bytes, MODULE);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn one_tenants_unknown_modules_do_not_keep_the_others_waiting() {
    let cid = raw(MODULE).to_string();
    let server =
        Server::start(
            move |request| {
                if request.contains(&cid) { Reply::Bytes(MODULE.to_vec()) } else { Reply::Hang }
            },
        )
        .await;
    let (_top, mut config) = fresh();
    config.fetch_timeout = Duration::from_millis(1500);
    config.gateways = vec![server.url.clone()];
    let supply = supply(config);
    let flood: Vec<_> = (0..100u8)
        .map(|n| {
            let supply = supply.clone();
            tokio::spawn(async move { supply.resolve("loud", &by_bytes(&[n])).await })
        })
        .collect();
    while server.seen().len() < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = Instant::now();
    supply.resolve("quiet", &by_bytes(MODULE)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1000), "{:?}", begun.elapsed());
    assert!(server.seen().len() <= 5, "the loud tenant has {} under way", server.seen().len() - 1);
    flood.into_iter().for_each(|task| task.abort());
}

#[tokio::test]
async fn one_tenants_time_outs_take_a_source_from_that_tenant_alone() {
    let cid = raw(MODULE).to_string();
    let slow = move |request: &str| {
        if request.contains(&cid) {
            Reply::Late(Duration::from_millis(50), MODULE.to_vec())
        } else {
            Reply::Hang
        }
    };
    let server = Server::start(slow).await;
    let (_top, mut config) = fresh();
    config.fetch_timeout = Duration::from_millis(200);
    config.gateways = vec![server.url.clone()];
    let supply = supply(config);
    for n in 0..3 {
        let error = supply.resolve("loud", &by_bytes(&[n])).await.unwrap_err();
        assert!(error.to_string().contains("did not deliver within 200 ms"), "{error}");
    }
    // The quiet one comes while the loud one is being told no: it has a fetch of its own then.
    let (loud_target, quiet_target) = (by_bytes(MODULE), by_bytes(MODULE));
    let (loud, quiet) =
        tokio::join!(supply.resolve("loud", &loud_target), supply.resolve("quiet", &quiet_target));
    assert_eq!(quiet.unwrap().bytes, MODULE);
    // Whether the loud one's look came before or after that, it has not asked the gateway.
    if let Err(error) = loud {
        assert!(error.to_string().contains("left out for 1 s"), "{error}");
        assert!(error.answers().iter().any(|answer| answer.left_out));
    }
    assert_eq!(server.seen().len(), 4, "{:?}", server.seen());
}

#[tokio::test]
async fn other_bytes_under_one_name_take_a_source_from_nobody() {
    let cid = raw(MODULE).to_string();
    let lies = move |request: &str| {
        if request.contains(&cid) {
            Reply::Bytes(MODULE.to_vec())
        } else {
            Reply::Bytes(b"other bytes".to_vec())
        }
    };
    let server = Server::start(lies).await;
    let (_top, mut config) = fresh();
    config.gateways = vec![server.url.clone()];
    let supply = supply(config);
    for _ in 0..2 {
        let error = supply.resolve("one", &by_bytes(OTHER)).await.unwrap_err();
        assert!(error.to_string().contains("other bytes"), "{error}");
    }
    assert_eq!(supply.resolve("one", &by_bytes(MODULE)).await.unwrap().bytes, MODULE);
    // One that hears nothing else is told to wait, and nobody besides.
    for n in 0..3 {
        let error = supply.resolve("one", &by_bytes(&[n])).await.unwrap_err();
        assert!(error.to_string().contains("other bytes"), "{error}");
    }
    let error = supply.resolve("one", &by_bytes(&[3])).await.unwrap_err();
    assert!(error.to_string().contains("left out for 1 s"), "{error}");
    let error = supply.resolve("another", &by_bytes(&[3])).await.unwrap_err();
    assert!(error.to_string().contains("other bytes"), "{error}");
}

#[tokio::test]
async fn a_source_that_accepts_no_connection_is_left_out_for_all() {
    // A full queue of connections that nobody accepts: the kernel answers no further one.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        filling.push(stream);
        assert!(filling.len() < 10_000, "the queue has an end");
    }
    let (_top, mut config) = fresh();
    config.fetch_timeout = Duration::from_millis(400);
    config.gateways = vec![format!("http://{address}")];
    let supply = supply(config);
    for n in 0..3 {
        let error = supply.resolve("one", &by_bytes(&[n])).await.unwrap_err();
        assert!(error.to_string().contains("cannot be reached"), "{error}");
    }
    let second = supply.resolve("another", &by_bytes(OTHER)).await.unwrap_err();
    assert!(second.to_string().contains("left out for 1 s"), "{second}");
}

#[test]
fn addresses_that_cannot_be_used_are_refused_at_the_start() {
    let start = |change: fn(&mut SupplyConfig)| {
        let (_top, mut config) = fresh();
        change(&mut config);
        void_module::Supply::new(config).map(|_| ()).unwrap_err()
    };
    let kubo = start(|config| config.ipfs_api = Some("localhost".into()));
    assert!(matches!(kubo, SupplyError::BadAddress { variable: "FNPM_IPFS_API", .. }), "{kubo}");
    let gateway = start(|config| config.gateways = vec!["ipfs.io".into()]);
    assert!(matches!(gateway, SupplyError::BadAddress { variable: "FNPM_HTTP_GATEWAYS", .. }), "{gateway}");
}
