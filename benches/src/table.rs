//! What is printed: plain text, the floor beside every number.

use crate::{Side, Step};

/// A run's stages in their order, and what each is.
const STAGES: [(&str, &str); 8] = [
    ("admit", "from the parsed request until its task goes on"),
    ("prepare", "module, machine code, entry and arguments: all from memory here"),
    ("lease", "a place, and a run process that waits"),
    ("send", "the request into its socket"),
    ("run", "until the answer is read: the guest, and two switches of process"),
    ("record", "the end concluded, handed to the store and published"),
    ("answer", "the turn of the task that writes the answer, and of others on this thread"),
    ("reap", "after the answer: its socket closed, the next process forked ahead"),
];

/// Where and how.
pub(crate) fn header(seconds: u32, turns: u32) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "void-wasm {} beside a hyper echo: add(2, 3), one process a run; {cores} processors, Linux {}; {seconds} s a side in {turns} turns",
        env!("CARGO_PKG_VERSION"),
        kernel.trim()
    );
}

/// All steps.
pub(crate) fn print(steps: &mut [Step]) {
    println!();
    println!("                    per second    p50 µs    p99 µs   CPU µs each   others' CPU");
    for step in steps.iter_mut() {
        let elapsed = (step.echo.seen.took + step.service.seen.took).as_secs_f64();
        let noise = 100.0 * step.others.as_secs_f64() / elapsed.max(1e-9);
        let (echo, service) = (figures(&mut step.echo), figures(&mut step.service));
        row(step.connections, "echo", &echo, &format!("{noise:10.0} %"));
        row(step.connections, "runs", &service, "");
        let ratio: Vec<f64> =
            service.iter().zip(&echo).map(|(service, echo)| service / echo.max(1e-9)).collect();
        println!("     runs / echo {:13.3} {:9.1} {:9.1} {:13.1}", ratio[0], ratio[1], ratio[2], ratio[3]);
    }
    println!();
    println!(
        "Stages of a run, mean µs  {}",
        columns(steps, |step| format!("{:>9} at once", step.connections))
    );
    for (stage, what) in STAGES {
        println!(
            "  {stage:<24}{}   {what}",
            columns(steps, |step| format!("{:17.1}", step.stages.mean(stage)))
        );
    }
    println!("Times are of the clock on the wall: with many at once they hold other runs' turns as well.");
}

/// Per second, p50, p99, and CPU time of each.
fn figures(side: &mut Side) -> [f64; 4] {
    let each = side.cpu.as_secs_f64() * 1e6 / (side.seen.latencies.len().max(1) as f64);
    [side.seen.rate(), side.seen.quantile(0.5), side.seen.quantile(0.99), each]
}

fn row(connections: usize, name: &str, figures: &[f64; 4], rest: &str) {
    let [rate, p50, p99, cpu] = figures;
    println!("  {connections:>3} at once, {name} {rate:9.0} {p50:9.0} {p99:9.0} {cpu:13.1}   {rest}");
}

fn columns(steps: &[Step], cell: impl Fn(&Step) -> String) -> String {
    steps.iter().map(cell).collect()
}
