//! What a run process says that an attacker has taken over.

use std::io::{self, IoSlice};
use std::mem::ManuallyDrop;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use void_ipc::limits::{FRAME_BYTES, PART_BYTES};
use void_ipc::message::{
    Call, CallPart, Claim, Fetch, FromRun, Key, KeyCall, Misfit, Reply, RunEnd, Start, Stream, ToRun, Trap,
    Unfit, Value,
};

use crate::engine::Template;
use crate::line::Line;

type Said = io::Result<()>;

/// The descriptor of a worker's socket.
const SOCKET: i32 = 3;

/// The life of a run process, as its attacker wants it.
pub(crate) fn serve(template: &mut Template, line: &Line, _reuse: bool) -> ! {
    // The service's own probe has to be answered, or the service does not start.
    let probe = template.instance.get_func(&mut template.store, "add").is_some();
    let late = template.instance.get_func(&mut template.store, "never_ready").is_some();
    let served = (|| {
        if probe || !late {
            line.send(&FromRun::Ready)?;
        }
        let Some(ToRun::Start(start)) = line.receive()? else { return Ok(()) };
        attack(line, &start)?;
        // Whatever is said after this: wait for the end.
        while line.receive::<ToRun>()?.is_some() {}
        Ok::<_, io::Error>(())
    })();
    void_seccomp::exit(if served.is_ok() { 0 } else { 1 })
}

fn attack(line: &Line, start: &Start) -> Said {
    match start.export.as_str() {
        "add" => done(line, Claim::Returned(vec![Value::I32(numbers(start).iter().sum())])),
        "sound" => sound(line),
        // Malformed.
        "garbage" => raw(line, &[0xa5; 100]),
        "empty_packet" => raw(line, &[]),
        "short_header" => raw(line, &[1, 0, 0]),
        "wrong_length" => tampered(line, |frame| frame[0] ^= 1),
        "wrong_version" => tampered(line, |frame| frame[4] = 200),
        "unknown_message" => tampered(line, |frame| frame[5] = 250),
        "trailing_bytes" => tampered(line, |frame| {
            frame.push(0);
            frame[0] += 1;
        }),
        "endless_list" => raw(line, &framed(&[2, 0, 253, 255, 255, 255, 255, 255, 0, 0, 0])),
        "not_utf8" => raw(line, &framed(&[1, 0, 2, 0xff, 0xfe, 0, 0])),
        "only_a_header" => raw(line, &framed(&[])),
        // Oversized.
        "oversized_packet" => raw(line, &vec![0; FRAME_BYTES + 1]),
        "oversized_output" => {
            line.send(&FromRun::Output { stream: Stream::Stdout, bytes: vec![0; PART_BYTES + 1] })
        }
        "too_many_values" => done(line, Claim::Returned(vec![Value::I32(1); 65])),
        "huge_message" => {
            done(line, Claim::Trapped(Trap { stack: false, message: "m".repeat(100_000), backtrace: vec![] }))
        }
        "huge_backtrace" => done(
            line,
            Claim::Trapped(Trap { stack: false, message: "m".into(), backtrace: vec!["f".into(); 33] }),
        ),
        "huge_line" => done(
            line,
            Claim::Trapped(Trap { stack: false, message: "m".into(), backtrace: vec!["f".repeat(5000)] }),
        ),
        "huge_value" => answered(line, &set("k", vec![1; 180_000])).and_then(|_| finish(line)),
        // Out of phase.
        "never_ready" => done(line, Claim::Returned(vec![])),
        "ready_twice" => line.send(&FromRun::Ready),
        "call_while_waiting" => say(line, &sleep(60)).and_then(|()| say(line, &get("k"))),
        "output_while_waiting" => say(line, &sleep(60))
            .and_then(|()| line.send(&FromRun::Output { stream: Stream::Stderr, bytes: vec![1] })),
        "done_while_waiting" => say(line, &sleep(60)).and_then(|()| done(line, Claim::Returned(vec![]))),
        "ready_while_waiting" => say(line, &sleep(60)).and_then(|()| line.send(&FromRun::Ready)),
        "garbage_while_waiting" => say(line, &sleep(60)).and_then(|()| raw(line, &[1; 20])),
        "answers_not_awaited" => loop {
            say(line, &emit(100))?;
        },
        "gone_while_waiting" => say(line, &sleep(60)).and_then(|()| void_seccomp::exit(0)),
        // Flooding.
        "flood_of_output" => loop {
            line.send(&FromRun::Output { stream: Stream::Stdout, bytes: vec![b'x'; PART_BYTES] })?;
        },
        "flood_of_small_output" => loop {
            line.send(&FromRun::Output { stream: Stream::Stderr, bytes: vec![] })?;
        },
        "flood_of_calls" => loop {
            answered(line, &get("k"))?;
        },
        "flood_of_unfit" => loop {
            answered(line, &unfit(CallPart::EventData, Misfit::TooLarge { size: 65_537 }))?;
        },
        "flood_of_emits" => loop {
            answered(line, &emit(65_536))?;
        },
        "flood_of_sleeps" => loop {
            answered(line, &Call::Sleep { nanoseconds: 0 })?;
        },
        "flood_of_denials" => {
            for number in 0..500 {
                let key = Key { namespace: format!("/{number}"), key: "k".into() };
                answered(line, &Call::KvGet(key))?;
            }
            finish(line)
        }
        // What a sound worker says of some parts only, said of each.
        "all_unfit" => {
            let key_calls = [KeyCall::Get, KeyCall::Set, KeyCall::Delete];
            let parts = [
                CallPart::EventName,
                CallPart::EventData,
                CallPart::Value,
                CallPart::Method,
                CallPart::Url,
                CallPart::HeaderText,
                CallPart::HeaderLines,
                CallPart::Body,
            ];
            let of_keys = key_calls.into_iter().flat_map(|of| [CallPart::Namespace(of), CallPart::Key(of)]);
            for part in parts.into_iter().chain(of_keys) {
                for misfit in
                    [Misfit::TooLarge { size: 0 }, Misfit::TooLarge { size: u32::MAX }, Misfit::Invalid]
                {
                    let Reply::Refused(_) = answered(line, &unfit(part, misfit))? else {
                        return Err(io::Error::other("it was not refused"));
                    };
                }
            }
            finish(line)
        }
        // Slow, and deaf.
        "silent" => Ok(()),
        "sleeps_for_ever" => answered(line, &Call::Sleep { nanoseconds: u64::MAX }).map(drop),
        "deaf" => {
            // Asks for much and reads nothing of it.
            let port = numbers(start).first().copied().unwrap_or_default();
            say(line, &fetch(&format!("http://127.0.0.1:{port}/big")))?;
            loop {
                std::hint::spin_loop();
            }
        }
        "descriptors" => {
            let bytes = framed(&[0]);
            let own = [SOCKET];
            let rights = [ControlMessage::ScmRights(&own)];
            sendmsg::<()>(own[0], &[IoSlice::new(&bytes)], &rights, MsgFlags::empty(), None)?;
            Ok(())
        }
        // Lies.
        "lies_of_memory" => {
            line.send(&FromRun::Call { call: get("k"), mem_pages: u32::MAX })?;
            let _: Option<ToRun> = line.receive()?;
            line.send(&FromRun::Done(RunEnd {
                claim: Claim::Returned(vec![Value::I32(42)]),
                mem_pages: u32::MAX,
                growth_refused: true,
            }))
        }
        "lies_of_the_end" => done(line, Claim::TooLarge { pages: u32::MAX }),
        // Where processes are used again: the next run's end, ahead of it.
        "one_ahead" => done(line, Claim::Returned(vec![Value::I32(1)]))
            .and_then(|()| done(line, Claim::Returned(vec![Value::I32(7)]))),
        "exits_oddly" => done(line, Claim::Exited(u32::MAX)),
        _ => Ok(()),
    }
}

/// All that a sound run may do, and its answers as they must be.
fn sound(line: &Line) -> Said {
    let wrong = |what: &str| Err(io::Error::other(what.to_owned()));
    if answered(line, &set("k", b"v".to_vec()))? != Reply::Done {
        return wrong("set");
    }
    if answered(line, &get("k"))? != Reply::Value(Some(b"v".to_vec())) {
        return wrong("get");
    }
    if answered(line, &Call::KvDelete(key("k")))? != Reply::Deleted(true)
        || answered(line, &Call::KvDelete(key("k")))? != Reply::Deleted(false)
        || answered(line, &get("k"))? != Reply::Value(None)
    {
        return wrong("delete");
    }
    if answered(line, &emit(10))? != Reply::Done || answered(line, &sleep(0))? != Reply::Done {
        return wrong("emit");
    }
    line.send(&FromRun::Output { stream: Stream::Stdout, bytes: b"said".to_vec() })?;
    finish(line)
}

fn finish(line: &Line) -> Said {
    done(line, Claim::Returned(vec![Value::I32(42)]))
}

fn numbers(start: &Start) -> Vec<i32> {
    start.args.iter().map(|value| if let Value::I32(value) = value { *value } else { 0 }).collect()
}

fn key(key: &str) -> Key {
    Key { namespace: String::new(), key: key.into() }
}

fn get(name: &str) -> Call {
    Call::KvGet(key(name))
}

fn set(name: &str, value: Vec<u8>) -> Call {
    Call::KvSet { key: key(name), value }
}

fn emit(bytes: usize) -> Call {
    Call::Emit { event: "e".into(), data: vec![b'x'; bytes] }
}

fn unfit(part: CallPart, misfit: Misfit) -> Call {
    Call::Unfit(Unfit { part, misfit })
}

fn sleep(seconds: u64) -> Call {
    Call::Sleep { nanoseconds: seconds * 1_000_000_000 }
}

fn fetch(url: &str) -> Call {
    Call::Fetch(Fetch { method: "GET".into(), url: url.into(), headers: vec![], body: vec![] })
}

fn say(line: &Line, call: &Call) -> Said {
    line.send(&FromRun::Call { call: call.clone(), mem_pages: 0 })
}

fn answered(line: &Line, call: &Call) -> io::Result<Reply> {
    say(line, call)?;
    match line.receive()? {
        Some(ToRun::Reply(reply)) => Ok(reply),
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

fn done(line: &Line, claim: Claim) -> Said {
    line.send(&FromRun::Done(RunEnd { claim, mem_pages: 0, growth_refused: false }))
}

/// A legal frame, spoiled.
fn tampered(line: &Line, spoil: impl FnOnce(&mut Vec<u8>)) -> Said {
    let mut frame = Vec::new();
    let message = FromRun::Call { call: get("k"), mem_pages: 0 };
    void_ipc::encode(&message, &mut frame).map_err(io::Error::other)?;
    spoil(&mut frame);
    raw(line, &frame)
}

/// A frame around any body.
fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], &[void_ipc::limits::VERSION], body].concat()
}

fn raw(_: &Line, bytes: &[u8]) -> Said {
    // The descriptor is the line's, which closes it.
    let socket = ManuallyDrop::new(void_seccomp::inherited(SOCKET));
    nix::unistd::write(&*socket, bytes).map(drop).map_err(io::Error::from)
}
