//! Measures the store: rows a second and CPU a row for groups of 1 and 64, the wait for one commit, and the recovery
//! time with a million stored runs.
//! `cargo run --release -p void-store --example throughput [runs [big]]`; `big` leaves the small groups out.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::value::RawValue;
use void_api::{CidText, Mode, RunId, RunRecord, Status, Target, Timestamp, Usage};
use void_store::{Accept, Change, EventFilter, ListFilter, RunRow, Store, StoreConfig};

fn main() {
    let runs: u64 = std::env::args().nth(1).map_or(1_000_000, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let tenant: Arc<str> = "default".into();
    println!("{:<44} {:>10} {:>10} {:>14} {:>14}", "", "rows/s", "a group", "writer µs/row", "caller µs/row");
    let small = std::env::args().nth(2).is_none();
    for full in [false, true].into_iter().filter(|_| small) {
        for group in [1, 64] {
            let (store, _) = Store::open(&config(&dir.path().join(format!("{full}-{group}")), full)).unwrap();
            let most = if group == 1 { 20_000 } else { 200_000 };
            let most = if full { most / 10 } else { most };
            let what = format!("ended runs, groups of {group}, {}", if full { "full" } else { "normal" });
            measure(&store, &what, most, || direct(&store, &tenant, most, group));
        }
    }
    if small {
        let (store, _) = Store::open(&config(&dir.path().join("queued"), false)).unwrap();
        measure(&store, "queued runs (accept, start, end), groups of 64", 50_000, || {
            queued(&store, &tenant, 50_000, 64)
        });
        await_one(&store, &tenant);
    }

    if small {
        for tasks in [1, 4, 32] {
            load(&dir.path().join(format!("load-{tasks}")), &tenant, tasks);
        }
    }

    let big = dir.path().join("big");
    let (store, _) = Store::open(&config(&big, false)).unwrap();
    measure(&store, &format!("{runs} ended runs, groups of 64"), runs, || direct(&store, &tenant, runs, 64));
    let open = record(Mode::Live, 1 << 50);
    store
        .submit(Accept::queued(RunRow::new(&tenant, &open).unwrap(), Bytes::new(), Bytes::new(), None))
        .wait()
        .unwrap();
    drop(store);
    let size: u64 =
        std::fs::read_dir(&big).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    let begin = Instant::now();
    let (store, recovery) = Store::open(&config(&big, false)).unwrap();
    println!(
        "open and recover {runs} runs: {:?}, {} pending, {} MiB",
        begin.elapsed(),
        recovery.pending.len(),
        size >> 20
    );
    reads(&store, open.run_id);
}

fn reads(store: &Store, run_id: RunId) {
    let reader = store.reader().unwrap();
    let time = |what: &str, read: &dyn Fn() -> usize| {
        read();
        let begin = Instant::now();
        let found = read();
        println!("{what:<44} {:>10.1} µs, {found} found", begin.elapsed().as_secs_f64() * 1e6);
    };
    let list = |filter: ListFilter| reader.list("default", &filter).unwrap().runs.len();
    time("get", &|| reader.get("default", run_id).unwrap().iter().count());
    time("list 100", &|| list(ListFilter { limit: 100, ..ListFilter::default() }));
    let label = vec![("repo".to_owned(), "void".to_owned())];
    time("list 100 with a label", &|| {
        list(ListFilter { limit: 100, labels: label.clone(), ..ListFilter::default() })
    });
    let rare = ListFilter { limit: 100, status: Some(Status::Error), ..ListFilter::default() };
    time("list a status that none has", &|| list(rare.clone()));
    let one = EventFilter { run_id: Some(run_id), ..EventFilter::default() };
    time("events of one run", &|| reader.events_after(0, &one, 100).unwrap().events.len());
    time("1000 events", &|| reader.events_after(5, &EventFilter::default(), 1000).unwrap().events.len());
}

fn direct(store: &Store, tenant: &Arc<str>, runs: u64, group: u64) {
    let mut commits = Vec::new();
    for n in 0..runs {
        let mut run = record(Mode::Live, n);
        finish(&mut run);
        commits.push(store.submit(Accept::ended(RunRow::new(tenant, &run).unwrap())));
        if commits.len() as u64 == group {
            commits.drain(..).rev().for_each(|commit| assert!(commit.wait().is_ok()));
        }
    }
    commits.drain(..).rev().for_each(|commit| assert!(commit.wait().is_ok()));
}

fn queued(store: &Store, tenant: &Arc<str>, runs: u64, group: u64) {
    for chunk in 0..runs / group {
        let mut records: Vec<_> = (0..group).map(|n| record(Mode::Live, chunk * group + n)).collect();
        let (request, policy) = (Bytes::from(vec![1; 300]), Bytes::from(vec![2; 200]));
        let step = |changes: Vec<void_store::Batch>| {
            let commits: Vec<_> = changes.into_iter().map(|batch| store.submit(batch)).collect();
            commits.into_iter().rev().for_each(|commit| assert!(commit.wait().is_ok()));
        };
        let accept = |run: &RunRecord| {
            Accept::queued(RunRow::new(tenant, run).unwrap(), request.clone(), policy.clone(), None).into()
        };
        step(records.iter().map(accept).collect());
        step(
            records
                .iter()
                .map(|run| Change::Started { tenant: tenant.clone(), run_id: run.run_id, at: 5 }.into())
                .collect(),
        );
        records.iter_mut().for_each(finish);
        let end = |run: &RunRecord| Change::Ended(Box::new(RunRow::new(tenant, run).unwrap())).into();
        step(records.iter().map(end).collect());
    }
}

fn await_one(store: &Store, tenant: &Arc<str>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut times: Vec<Duration> = (0..5_000)
        .map(|n| {
            let mut run = record(Mode::Live, 1 << 40 | n);
            finish(&mut run);
            let row = RunRow::new(tenant, &run).unwrap();
            let begin = Instant::now();
            runtime.block_on(store.submit(Accept::ended(row))).unwrap();
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 1000];
    println!("one commit awaited: p50 {:?}, p99 {:?}, p999 {:?}", at(500), at(990), at(999));
}

/// What the store costs a service: two lanes of tasks that each work for 150 µs of CPU, which is a run, and then store
/// it or not.
fn load(dir: &Path, tenant: &Arc<str>, tasks: usize) {
    const LANES: u64 = 2;
    const WORK: Duration = Duration::from_micros(150);
    let (store, _) = Store::open(&config(dir, false)).unwrap();
    let store = Arc::new(store);
    let turns = (1..20).map(|_| {
        let begin = Instant::now();
        work(100_000);
        (WORK.as_secs_f64() / begin.elapsed().as_secs_f64() * 100_000.0) as u64
    });
    let turns = turns.max().unwrap();
    let mut rates = [(0.0, 0.0); 2];
    for (stored, rate) in [false, true].into_iter().zip(&mut rates) {
        let (begin, spent) = (Instant::now(), process_cpu());
        let lanes = (0..LANES).map(|lane| {
            let (store, tenant) = (Arc::clone(&store), Arc::clone(tenant));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let local = tokio::task::LocalSet::new();
                let done = std::rc::Rc::new(std::cell::Cell::new(lane << 32));
                for _ in 0..tasks {
                    let (store, tenant, done) =
                        (Arc::clone(&store), Arc::clone(&tenant), std::rc::Rc::clone(&done));
                    local.spawn_local(async move {
                        while begin.elapsed() < Duration::from_secs(2) {
                            work(turns);
                            done.set(done.get() + 1);
                            let mut run = record(Mode::Live, 1 << 45 | done.get());
                            finish(&mut run);
                            if stored {
                                store
                                    .submit(Accept::ended(RunRow::new(&tenant, &run).unwrap()))
                                    .await
                                    .unwrap();
                            } else {
                                tokio::task::yield_now().await;
                            }
                        }
                    });
                }
                runtime.block_on(local);
                done.get() - (lane << 32)
            })
        });
        let lanes: Vec<_> = lanes.collect();
        let runs: u64 = lanes.into_iter().map(|lane| lane.join().unwrap()).sum();
        *rate = (runs as f64 / begin.elapsed().as_secs_f64(), (process_cpu() - spent) * 1e6 / runs as f64);
    }
    let stats = store.stats();
    let [(without, bare), (with, stored)] = rates;
    println!(
        "{tasks} tasks on each of {LANES} lanes: {without:.0} runs/s without the store, {with:.0} with it; {:.1} µs of \
         CPU a run more than {bare:.0}; {:.1} a group",
        stored - bare,
        stats.batches as f64 / stats.groups as f64
    );
}

/// CPU seconds of the process, with the threads that have ended.
fn process_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: Vec<f64> =
        fields.split_whitespace().skip(11).take(2).map(|text| text.parse().unwrap()).collect();
    (ticks[0] + ticks[1]) / 100.0
}

fn work(turns: u64) {
    let end =
        (0..turns).fold(1u64, |state, turn| std::hint::black_box(state.wrapping_mul(31).wrapping_add(turn)));
    std::hint::black_box(end);
}

fn measure(store: &Store, what: &str, rows: u64, work: impl FnOnce()) {
    let (all, own, begin) = (cpu("/proc/self"), cpu("/proc/thread-self"), Instant::now());
    let before = store.stats();
    work();
    let stats = store.stats();
    let size = (stats.batches - before.batches) as f64 / (stats.groups - before.groups) as f64;
    let took = begin.elapsed().as_secs_f64();
    let own = cpu("/proc/thread-self") - own;
    let others = cpu("/proc/self") - all - own;
    let each = 1e6 / rows as f64;
    println!(
        "{what:<44} {:>10.0} {size:>10.1} {:>14.2} {:>14.2}",
        rows as f64 / took,
        others * each,
        own * each
    );
}

/// CPU seconds of a thread, or of all threads of the process together.
fn cpu(of: &str) -> f64 {
    let one = |path: &Path| {
        let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
    };
    if of.ends_with("thread-self") {
        return one(Path::new(of));
    }
    std::fs::read_dir(Path::new(of).join("task")).unwrap().map(|task| one(&task.unwrap().path())).sum()
}

fn record(mode: Mode, n: u64) -> RunRecord {
    let random = u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 8;
    let id = RunId::new(1_790_000_000_000 + n / 10, random);
    let mut record = RunRecord::accepted(
        id,
        Timestamp(id.unix_ms()),
        mode,
        Target::Cid(CidText::raw([7; 32])),
        "add(i32,i32)->i32".to_owned(),
    );
    record.labels.insert("repo".to_owned(), "void".to_owned());
    record.labels.insert("branch".to_owned(), "main".to_owned());
    record
}

fn finish(record: &mut RunRecord) {
    record.status = Status::Finished;
    record.result = RawValue::from_string("5".to_owned()).ok();
    record.usage = Usage { cpu_ms: 1, wall_ms: 2, wait_ms: 0, mem_pages: 16, syscalls: 3 };
    record.started_at = Some(Timestamp(record.created_at.0 + 1));
    record.finished_at = Some(Timestamp(record.created_at.0 + 2));
}

fn config(dir: &Path, full_durability: bool) -> StoreConfig {
    StoreConfig {
        dir: dir.to_path_buf(),
        full_durability,
        runs_keep: 2_000_000,
        runs_keep_hours: 1_000_000,
        node: "bench".to_owned(),
    }
}
