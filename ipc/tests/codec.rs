//! Whatever bytes come, decoding ends at once, with a message or an error, and takes no more memory than a frame is worth.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;
use void_ipc::limits::{FRAME_BYTES, HEADER_BYTES, VERSION};
use void_ipc::message::{
    Call, CallPart, Claim, FromCompiler, FromRun, FromZygote, KeyCall, Misfit, Reply, RunEnd, Stream, ToRun,
    Unfit, Value,
};
use void_ipc::{CodecError, Message, decode, encode, encode_into};

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len() + 1).unwrap().to_le_bytes().to_vec();
    frame.push(VERSION);
    frame.extend_from_slice(body);
    frame
}

fn round_trip<T: Message + PartialEq + std::fmt::Debug>(message: &T) {
    let mut frame = Vec::new();
    encode(message, &mut frame).unwrap();
    assert_eq!(&decode::<T>(&frame).unwrap(), message);
    let mut room = vec![0; FRAME_BYTES];
    let length = encode_into(message, &mut room).unwrap();
    assert_eq!(&room[..length], frame, "both ways of writing give the same");
    // Neither a byte less nor a byte more is the message, whatever the header says.
    for cut in 0..frame.len() {
        assert!(decode::<T>(&frame[..cut]).is_err(), "cut at {cut}");
    }
    let body = &frame[HEADER_BYTES..];
    assert_eq!(decode::<T>(&framed(&[body, &[0]].concat())), Err(CodecError::Body), "a byte left behind");
    frame.push(0);
    assert_eq!(decode::<T>(&frame), Err(CodecError::Length));
}

/// Decodes as every type that comes from a worker.
fn decode_as_all(frame: &[u8]) {
    std::hint::black_box(decode::<FromRun>(frame).is_ok());
    std::hint::black_box(decode::<FromZygote>(frame).is_ok());
    std::hint::black_box(decode::<FromCompiler>(frame).is_ok());
}

/// The most memory that this process ever reserved, KiB, touched or not.
fn reserved() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i32>().prop_map(Value::I32),
        any::<i64>().prop_map(Value::I64),
        any::<u32>().prop_map(Value::F32),
        any::<u64>().prop_map(Value::F64),
        any::<u128>().prop_map(Value::V128),
    ]
}

proptest! {
    #[test]
    fn what_a_run_says_survives_the_way(
        values in vec(value(), 0..8), pages: u32, refused: bool, text in ".{0,40}", bytes in vec(any::<u8>(), 0..200),
    ) {
        round_trip(&FromRun::Done(RunEnd { claim: Claim::Returned(values), mem_pages: pages, growth_refused: refused }));
        round_trip(&FromRun::Call { call: Call::Emit { event: text, data: bytes.clone() }, mem_pages: pages });
        let unfit = Unfit { part: CallPart::Key(KeyCall::Delete), misfit: Misfit::TooLarge { size: pages } };
        round_trip(&FromRun::Call { call: Call::Unfit(unfit), mem_pages: pages });
        let unfit = Unfit { part: CallPart::Body, misfit: Misfit::Invalid };
        round_trip(&FromRun::Call { call: Call::Unfit(unfit), mem_pages: pages });
        round_trip(&FromRun::Output { stream: Stream::Stderr, bytes: bytes.clone() });
        round_trip(&ToRun::Reply(Reply::Value(Some(bytes))));
    }

    #[test]
    fn no_bytes_do_harm(body in vec(any::<u8>(), 0..400)) {
        decode_as_all(&framed(&body));
        decode_as_all(&body);
    }

    #[test]
    fn no_change_of_a_message_does_harm(values in vec(value(), 0..8), at: prop::sample::Index, to: u8) {
        let end = RunEnd { claim: Claim::Returned(values), mem_pages: 1, growth_refused: false };
        let mut frame = Vec::new();
        encode(&FromRun::Done(end), &mut frame).unwrap();
        let at = at.index(frame.len());
        frame[at] = to;
        decode_as_all(&frame);
    }
}

#[test]
fn a_claimed_length_reserves_nothing() {
    // The tests beside this one reserve some as well: each thread a stack and, for its allocations, 128 MiB.
    const OTHERS_KIB: u64 = 2 << 20;
    let before = reserved();
    // Every variant in the first two places, and a length in the third: 2^33 and more values, bytes or texts.
    for variant in 0..8u8 {
        for claim in 0..8u8 {
            for length in [1u64 << 33, 1 << 40, 1 << 62, u64::MAX] {
                let body = [&[variant, claim, 253][..], &length.to_le_bytes()].concat();
                let started = std::time::Instant::now();
                decode_as_all(&framed(&body));
                assert!(started.elapsed().as_secs() < 1, "{variant} {claim} {length}");
            }
        }
    }
    assert!(reserved() <= before + OTHERS_KIB, "{} KiB became {}", before, reserved());
}

#[test]
fn another_version_is_refused_by_name() {
    let mut frame = Vec::new();
    encode(&FromRun::Ready, &mut frame).unwrap();
    frame[4] = VERSION + 1;
    assert_eq!(decode::<FromRun>(&frame), Err(CodecError::Version(VERSION + 1)));
}

#[test]
fn what_does_not_fit_a_frame_is_not_written() {
    let large = FromRun::Output { stream: Stream::Stdout, bytes: vec![0; FRAME_BYTES] };
    assert_eq!(encode(&large, &mut Vec::new()), Err(CodecError::TooLarge));
    assert_eq!(encode_into(&large, &mut vec![0; FRAME_BYTES]), Err(CodecError::TooLarge));
    let fits = FromRun::Output { stream: Stream::Stdout, bytes: vec![7; FRAME_BYTES - 64] };
    assert_eq!(encode_into(&fits, &mut [0; 100]), Err(CodecError::TooLarge));
    round_trip_large(&fits);
}

/// As `round_trip`, without each of its 190,000 cuts.
fn round_trip_large(message: &FromRun) {
    let mut frame = Vec::new();
    encode(message, &mut frame).unwrap();
    assert!(frame.len() <= FRAME_BYTES);
    assert_eq!(&decode::<FromRun>(&frame).unwrap(), message);
}
