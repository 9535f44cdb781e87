//! Letting go of what nobody needs.

use std::rc::Weak;

use void_ipc::message::ToZygote;

use super::{IDLE, QUIET, Zygote};

/// When nobody comes for a moment: lets go of what has answered, has it reaped, and in the end keeps one spare.
pub(super) async fn tidy(zygote: Weak<Zygote>) {
    let mut pause = QUIET;
    loop {
        tokio::time::sleep(pause).await;
        let Some(zygote) = zygote.upgrade() else { return };
        let quiet = zygote.last_used().elapsed();
        if quiet < QUIET {
            continue;
        }
        if quiet >= IDLE {
            zygote.wanted.set(1);
            zygote.keep_one();
        }
        zygote.let_go();
        let all_left = zygote.leaving.borrow().is_empty();
        if !zygote.takes_runs() || (all_left && zygote.unreported() == 0 && zygote.waiting() <= 1) {
            zygote.tidied.set(true);
            return;
        }
        // What was just let go takes a moment to end; what ended before is reported now.
        let _ = zygote.order(&ToZygote::Reap, &[]);
        pause = (pause * 2).min(IDLE / 4);
    }
}
