//! `void-echo`: the floor. hyper reads a body and sends it back, with as little of our own as can be.
//!
//! It is built as the service is: one pinned thread for each processor, each with its own event loop, and an acceptor
//! that hands connections around. What must not enter: any work that the service does not also have to do.
#![forbid(unsafe_code)]

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut lanes = Vec::new();
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    for cpu in (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)) {
        let (sender, inbox) = unbounded_channel();
        thread::spawn(move || lane(cpu, inbox));
        lanes.push(sender);
    }
    // Whoever started this reads the address from here.
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    for lane in lanes.iter().cycle() {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        if lane.send(stream).is_err() {
            break;
        }
    }
    Ok(())
}

fn lane(cpu: usize, mut inbox: UnboundedReceiver<TcpStream>) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        while let Some(stream) = inbox.recv().await {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            spawn_local(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(echo)),
            );
        }
        Ok(())
    })
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
