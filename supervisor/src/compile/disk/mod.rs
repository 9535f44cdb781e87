//! Machine code on disk, so that a restart costs no compilation: `code/` in the state directory.
//!
//! ```text
//! code/key                             the secret; without it no file is of use, and none can be made
//! code/<build>/<tenant>/<name>         all three are HMACs: of what made it, for whom, and of which module
//! ```
//! A file is opened by a name that only this tenant's question makes, and holds only under it. What fails its check is
//! removed and compiled anew. Two threads do the work, one reads and one writes: lanes wait for no disk.
//!
//! Whoever can read the key can write code that a worker loads, where it is as confined as a guest. That is this service
//! and whoever may become its user; a run process and a compiler have no file system.

mod file;
mod room;
mod secret;

use std::fmt::Write;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread;

use tokio::sync::oneshot;

use super::Code;
use crate::metrics::{CodeFile, Metrics};
use file::Found;
use room::Room;
pub(crate) use secret::Build;
use secret::Secret;

/// Codes that wait to be written; each may be large, and a disk may hang. Beyond that they are not kept: the next start
/// compiles them.
const TO_WRITE: usize = 16;

type Job = Box<dyn FnOnce(&Folder) + Send>;

/// The files.
#[derive(Debug)]
pub(crate) struct Files {
    folder: Arc<Folder>,
    reader: Sender<Job>,
    writer: SyncSender<(Place, Arc<Code>)>,
}

/// Where one module's code is.
#[derive(Debug, Clone)]
struct Place {
    tenant: [u8; 32],
    name: [u8; 32],
}

#[derive(Debug)]
struct Folder {
    /// `code/`.
    path: PathBuf,
    /// The folder of this build in it.
    own: PathBuf,
    secret: Secret,
    build: Build,
    metrics: Metrics,
}

impl Files {
    /// Opens `code/` in the state directory, makes it where it is not there, and starts the threads. Call it on a thread
    /// that is not pinned to a processor: they inherit that.
    ///
    /// # Errors
    /// The folder cannot be used, or the threads cannot be started. Then everything works but keeping code.
    pub(crate) fn open(state: &Path, build: Build, metrics: Metrics) -> io::Result<Files> {
        let path = state.join("code");
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let secret = Secret::open(&path)?;
        let own = path.join(hex(&secret.build(&build)[..16]));
        let folder = Arc::new(Folder { path, own, secret, build, metrics });
        let (reader, to_read) = mpsc::channel::<Job>();
        let (writer, to_write) = mpsc::sync_channel::<(Place, Arc<Code>)>(TO_WRITE);
        let reads = Arc::clone(&folder);
        thread::Builder::new().name("code-read".into()).spawn(move || {
            to_read.into_iter().for_each(|job| job(&reads));
        })?;
        let writes = Arc::clone(&folder);
        thread::Builder::new().name("code-write".into()).spawn(move || {
            let mut room = writes.tidy_up();
            for (place, code) in to_write {
                writes.write(&place, &code, &mut room);
            }
        })?;
        Ok(Files { folder, reader, writer })
    }

    /// The code of a tenant's module, where it was kept and nobody has changed it.
    pub(crate) async fn read(&self, tenant: &str, sha256: &[u8; 32]) -> Option<Code> {
        let place = self.place(tenant, sha256);
        self.ask(move |folder| folder.read(&place)).await.flatten()
    }

    /// Whether there is a file for it; it may still turn out to be none.
    pub(crate) async fn has(&self, tenant: &str, sha256: &[u8; 32]) -> bool {
        let place = self.place(tenant, sha256);
        self.ask(move |folder| folder.path_of(&place).is_file()).await.unwrap_or(false)
    }

    /// Keeps code, soon. Code that another engine is for, and what the disk has no time for, is not kept.
    pub(crate) fn keep(&self, tenant: &str, sha256: &[u8; 32], code: &Arc<Code>) {
        let fits = code.engine == self.folder.build.engine;
        if !fits || self.writer.try_send((self.place(tenant, sha256), Arc::clone(code))).is_err() {
            self.folder.metrics.code_file(CodeFile::Failed);
        }
    }

    fn place(&self, tenant: &str, sha256: &[u8; 32]) -> Place {
        let Folder { secret, build, .. } = &*self.folder;
        Place { tenant: secret.tenant(tenant), name: secret.name(build, tenant, sha256) }
    }

    async fn ask<T: Send + 'static>(&self, work: impl FnOnce(&Folder) -> T + Send + 'static) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let job = move |folder: &Folder| {
            // Who stopped waiting costs the disk nothing.
            if !tell.is_closed() {
                let _ = tell.send(work(folder));
            }
        };
        self.reader.send(Box::new(job)).ok()?;
        told.await.ok()
    }
}

impl Folder {
    fn path_of(&self, place: &Place) -> PathBuf {
        self.own.join(hex(&place.tenant[..16])).join(hex(&place.name))
    }

    fn read(&self, place: &Place) -> Option<Code> {
        let path = self.path_of(place);
        match file::read(&path, &place.name, &self.secret, self.build.engine) {
            Ok(Found::Code(code)) => Some(code),
            Ok(Found::Absent) => None,
            Ok(Found::Rejected) => {
                tracing::warn!(file = %path.display(), "a file of the code cache was changed or torn; it is removed and made anew");
                self.metrics.code_file(CodeFile::Rejected);
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(%error, "it cannot be removed");
                }
                None
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a file of the code cache cannot be read");
                self.metrics.code_file(CodeFile::Failed);
                None
            }
        }
    }

    fn write(&self, place: &Place, code: &Code, room: &mut Room) {
        let path = self.path_of(place);
        room.make(code.size + code.description.weight(), &self.own, &self.metrics);
        let folder = DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap_or(&self.own));
        // One thread writes, so that one name is enough for what is not finished.
        let new = self.own.join("new");
        match folder.and_then(|()| file::write(&path, &new, &place.name, &self.secret, code)) {
            Ok(bytes) => {
                room.taken(bytes);
                self.metrics.code_file(CodeFile::Written);
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "machine code could not be kept on disk");
                self.metrics.code_file(CodeFile::Failed);
            }
        }
    }

    /// Removes what other builds have made, and counts what is there.
    fn tidy_up(&self) -> Room {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let path = entry.path();
            let named = entry.file_name().to_str().is_some_and(is_hex);
            if named && path != self.own && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                match fs::remove_dir_all(&path) {
                    Ok(()) => tracing::info!("machine code of another build was removed"),
                    Err(error) => tracing::warn!(%error, "machine code of another build cannot be removed"),
                }
            }
        }
        Room::count(&self.own)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn is_hex(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
