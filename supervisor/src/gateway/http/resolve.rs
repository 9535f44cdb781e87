//! Names to addresses, by the machine's own resolver, once for each request. Judging the addresses is policy's.
//!
//! The system's resolver cannot be interrupted: a look-up that nobody waits for any more holds its thread until it gives
//! up by itself. So each tenant has a few of the threads at most: one whose names do not answer waits for itself.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use void_ipc::message::Refusal;
use void_policy::Tenant;

use super::Failure;

/// Look-ups at once.
pub(super) const LOOK_UPS: usize = 128;
/// Look-ups of one tenant at once.
const LOOK_UPS_OF_ONE: usize = 8;
/// Tenants that are remembered before those without a look-up are forgotten.
const TENANTS_KEPT: usize = 64;

/// Who is looking names up.
#[derive(Debug, Default)]
pub(super) struct Resolver(Mutex<HashMap<Tenant, Arc<Semaphore>>>);

impl Resolver {
    fn turns(&self, tenant: &Tenant) -> Arc<Semaphore> {
        let mut tenants = self.0.lock();
        if tenants.len() >= TENANTS_KEPT {
            tenants.retain(|_, turns| {
                Arc::strong_count(turns) > 1 || turns.available_permits() < LOOK_UPS_OF_ONE
            });
        }
        let fresh = || Arc::new(Semaphore::new(LOOK_UPS_OF_ONE));
        Arc::clone(tenants.entry(tenant.clone()).or_insert_with(fresh))
    }

    /// All addresses that the name has now: what is cut off here would not be judged. An answer of the DNS holds a few
    /// thousand at most.
    pub(super) async fn resolve(&self, tenant: &Tenant, name: &str) -> Result<Vec<IpAddr>, Failure> {
        let unavailable = || Failure::Failed(Refusal::Unavailable);
        let turn = self.turns(tenant).acquire_owned().await.map_err(|_| unavailable())?;
        let asked = name.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            (asked.as_str(), 0).to_socket_addrs().map(|found| {
                let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
                // The resolver may name each once for every kind of socket.
                addresses.dedup();
                addresses
            })
        });
        match found.await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a guest's host name does not resolve");
                Err(Failure::Failed(Refusal::Unreachable))
            }
            Err(_) => Err(unavailable()),
        }
    }
}
