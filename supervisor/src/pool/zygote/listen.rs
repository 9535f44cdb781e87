//! What a zygote says, as long as it says something.

use std::rc::{Rc, Weak};

use void_ipc::channel::ChannelError;
use void_ipc::message::FromZygote;

use super::super::{BUFFERS, LeaseError, Zygotes};
use super::{Socket, Zygote};
use crate::metrics;

/// Reads what a zygote says until it is gone. Holds it weakly: a zygote that nobody uses ends.
pub(super) async fn listen(socket: Rc<Socket>, zygote: Weak<Zygote>, among: Weak<Zygotes>) {
    loop {
        let received = receive(&socket).await;
        let Some(zygote) = zygote.upgrade() else { return };
        let failed = match received {
            Ok(message) => zygote.handle(message).err(),
            Err(error) => Some(LeaseError::Died(error.to_string())),
        };
        if let Some(why) = failed {
            zygote.metrics.worker_ended(metrics::Role::Zygote, metrics::Cause::Crashed);
            zygote.die(why);
            if let Some(zygotes) = among.upgrade() {
                zygotes.borrow_mut().retain(|_, other| !Rc::ptr_eq(other, &zygote));
            }
            return;
        }
    }
}

async fn receive(socket: &Socket) -> Result<FromZygote, ChannelError> {
    loop {
        let mut ready = socket.readable().await?;
        match BUFFERS.with_borrow_mut(|(buffer, _)| socket.get_ref().receive(buffer)) {
            Err(error) if error.would_block() => ready.clear_ready(),
            received => return received,
        }
    }
}
