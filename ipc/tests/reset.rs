//! A peer's last word is heard although it ended without reading what was sent to it.
#![allow(clippy::unwrap_used, missing_docs)]

use void_ipc::channel::{self, Channel, ChannelError, ReceiveBuffer};
use void_ipc::message::{FromZygote, Layer, Refused, ToZygote};

fn last_word() -> FromZygote {
    FromZygote::Refused(Refused { layer: Layer::Namespaces, detail: "clone: not permitted".into() })
}

/// The near end of a channel whose far end has said its last word and is closed, with an order unread.
fn ended() -> Channel<ToZygote, FromZygote> {
    let (near, far) = channel::pair::<ToZygote, FromZygote>().unwrap();
    near.send(&ToZygote::Reap, &[], &mut Vec::new()).unwrap();
    let mut frame = Vec::new();
    void_ipc::encode(&last_word(), &mut frame).unwrap();
    nix::unistd::write(&far, &frame).unwrap();
    near
}

#[test]
fn the_last_word_comes_before_the_end() {
    let near = ended();
    let mut buffer = ReceiveBuffer::default();
    assert_eq!(near.receive(&mut buffer).unwrap(), last_word());
    assert!(matches!(near.receive(&mut buffer), Err(ChannelError::Closed)));
}

#[test]
fn and_with_it_who_said_it() {
    let near = ended();
    near.tell_senders().unwrap();
    let mut buffer = ReceiveBuffer::default();
    assert_eq!(near.receive_with_sender(&mut buffer).unwrap().0, last_word());
    assert!(matches!(near.receive_with_sender(&mut buffer), Err(ChannelError::Closed)));
}

#[test]
fn without_a_last_word_it_is_the_end() {
    let (near, far) = channel::pair::<ToZygote, FromZygote>().unwrap();
    near.send(&ToZygote::Reap, &[], &mut Vec::new()).unwrap();
    drop(far);
    assert!(matches!(near.receive(&mut ReceiveBuffer::default()), Err(ChannelError::Closed)));
}
