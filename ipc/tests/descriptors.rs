//! Nothing but bytes comes upward: a message with a descriptor attached is refused, and the descriptor is not kept.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::IoSlice;
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use void_ipc::channel::{self, ChannelError, ReceiveBuffer};
use void_ipc::message::{FromRun, ToRun};

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_message_that_brings_a_descriptor_is_refused_and_the_next_one_is_not() {
    let (near, far) = channel::pair::<ToRun, FromRun>().unwrap();
    near.tell_senders().unwrap();
    let mut frame = Vec::new();
    void_ipc::encode(&FromRun::Ready, &mut frame).unwrap();
    let send = |control: &[ControlMessage<'_>]| {
        sendmsg::<()>(far.as_raw_fd(), &[IoSlice::new(&frame)], control, MsgFlags::empty(), None).unwrap()
    };
    let mut buffer = ReceiveBuffer::default();
    let before = open_descriptors();
    let rights = [far.as_raw_fd(); 3];
    send(&[ControlMessage::ScmRights(&rights)]);
    let received = near.receive_with_sender(&mut buffer);
    assert!(matches!(received, Err(ChannelError::Descriptors(_))), "{received:?}");
    assert_eq!(open_descriptors(), before);
    send(&[]);
    let (message, sender) = near.receive_with_sender(&mut buffer).unwrap();
    assert_eq!(message, FromRun::Ready);
    assert_eq!(sender.unwrap().pid().unsigned_abs(), std::process::id());
}
