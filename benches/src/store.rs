//! What the store costs: the service as it is shipped beside one that was built to store nothing, in turns.

use std::io::Result;
use std::path::Path;
use std::time::Duration;

use crate::load::{DIGITS, Seen, Target, apply};
use crate::server::Server;
use crate::{CONNECTIONS, TURNS, post};

/// What was asked for, in percent.
const MOST: f64 = 15.0;

/// Measures three sides: no store, the store, and the store with an idempotency key for each run.
pub(crate) fn compare(
    binaries: &Path,
    without: &Path,
    manifests: &Path,
    state: &Path,
    body: &str,
    seconds: u32,
) -> Result<()> {
    let prefer = "prefer: wait=10\r\n";
    let keyed = format!("{prefer}idempotency-key: {}\r\n", "0".repeat(DIGITS));
    let (off_state, on_state) = (state.join("off"), state.join("on"));
    std::fs::create_dir_all(&off_state)?;
    std::fs::create_dir_all(&on_state)?;
    let off = Server::service(without, manifests, &off_state)?;
    let on = Server::service(binaries, manifests, &on_state)?;
    let target = |server: &Server, header: &str| {
        let request = post("/v1/exec", header, body);
        let number_at = request.windows(DIGITS).position(|bytes| bytes == "0".repeat(DIGITS).as_bytes());
        Target { address: server.address, request, number_at, contains: "\"result\":5" }
    };
    let sides = [target(&off, prefer), target(&on, prefer), target(&on, &keyed)];

    println!("Runs per second of add(2, 3) with and without the store; {seconds} s a side in {TURNS} turns");
    println!();
    println!("              store off    store on       cost    on, with a key       cost");
    let turn = Duration::from_secs(u64::from(seconds)) / TURNS;
    let mut dearest = f64::MIN;
    for connections in CONNECTIONS {
        let mut seen = [(); 3].map(|()| Seen::default());
        for side in &sides {
            apply(side, connections, turn / 4)?;
        }
        for _ in 0..TURNS {
            for (side, seen) in sides.iter().zip(&mut seen) {
                seen.add(apply(side, connections, turn)?);
            }
        }
        let [off, on, keyed] = seen.each_ref().map(Seen::rate);
        let cost = |rate: f64| 100.0 * (1.0 - rate / off.max(1e-9));
        dearest = dearest.max(cost(on));
        println!(
            "{connections:>3} at once {off:11.0} {on:11.0} {:8.1} % {keyed:17.0} {:8.1} %",
            cost(on),
            cost(keyed)
        );
    }
    println!();
    println!("At the most {dearest:.1} % of the rate; {MOST:.0} % is what it may cost.");
    Ok(())
}
