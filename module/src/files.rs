//! Opening, reading and writing module files. Blocking: called on blocking threads only.
//!
//! Opening goes through `openat2` with RESOLVE_BENEATH: the kernel itself refuses `..` and links that lead out of
//! the folder, with no moment between a check and the use. What is not a regular file is never read.

use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use crate::verify::{Digest, Verified};

/// Why a file could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No such file, or no such folder.
    Absent,
    /// The name, or a link on the way, leads out of the folder.
    LeadsOut,
    /// A folder, a pipe, a device.
    NotAFile,
    /// More bytes than the bound.
    TooLarge,
    /// Its bytes do not have the wanted digest.
    OtherBytes,
    /// A whole file beside the CID of a DAG, and no known way to cut it leads to that.
    Incomparable,
    /// The system's answer.
    Io(ErrorKind),
}

impl Trouble {
    /// A clause for an answer.
    pub(crate) fn said(self) -> String {
        match self {
            Self::Absent => "not there".to_owned(),
            Self::LeadsOut => "leads out of its folder, which is refused".to_owned(),
            Self::NotAFile => "not a regular file".to_owned(),
            Self::TooLarge => "larger than allowed".to_owned(),
            Self::OtherBytes => "holds other bytes".to_owned(),
            Self::Incomparable => {
                "cannot be compared with the CID: it holds other bytes, or was cut in no usual way".to_owned()
            }
            Self::Io(kind) => format!("cannot be read ({kind})"),
        }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Absent,
            kind => Self::Io(kind),
        }
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => Self::Absent,
            Errno::EXDEV | Errno::ELOOP => Self::LeadsOut,
            // A socket, or a device without a driver.
            Errno::ENXIO => Self::NotAFile,
            other => Self::Io(std::io::Error::from(other).kind()),
        }
    }
}

/// Opens the regular file `name` (which may have folders in it) beneath `folder`.
pub(crate) fn open_beneath(folder: &Path, name: &Path) -> Result<(File, Metadata), Trouble> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(folder, flags, Mode::empty())?;
    // O_NONBLOCK: a pipe laid there must not hold the thread until somebody writes to it.
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut tries = 0;
    let fd = loop {
        match openat2(root.as_fd(), name, how) {
            // The kernel's word for "something was renamed meanwhile, I cannot tell".
            Err(Errno::EAGAIN) if tries < 8 => tries += 1,
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let file = File::from(fd);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Trouble::NotAFile);
    }
    Ok((file, metadata))
}

/// Reads a file of at most `cap` bytes and takes it if its digest is `want`.
pub(crate) fn read_verified(
    folder: &Path,
    name: &Path,
    cap: u64,
    want: &Digest,
) -> Result<(Verified, Metadata), Trouble> {
    let (mut file, metadata) = open_beneath(folder, name)?;
    let size = bounded_size(&metadata, cap)?;
    match Verified::read(&mut file, size, want) {
        Ok(Some(verified)) => Ok((verified, metadata)),
        Ok(None) => Err(Trouble::OtherBytes),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(Trouble::OtherBytes),
        Err(error) => Err(error.into()),
    }
}

/// Reads a file of at most `cap` bytes as it is.
pub(crate) fn read_whole(folder: &Path, name: &Path, cap: u64) -> Result<(Vec<u8>, Metadata), Trouble> {
    use std::io::Read;
    let (file, metadata) = open_beneath(folder, name)?;
    let size = bounded_size(&metadata, cap)?;
    let mut bytes = Vec::with_capacity(size);
    file.take(cap.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > cap {
        return Err(Trouble::TooLarge);
    }
    Ok((bytes, metadata))
}

fn bounded_size(metadata: &Metadata, cap: u64) -> Result<usize, Trouble> {
    let size = metadata.len();
    if size > cap {
        return Err(Trouble::TooLarge);
    }
    usize::try_from(size).map_err(|_| Trouble::TooLarge)
}

/// Names of files that are still being written start like this, so that a sweep can tell them.
pub(crate) const UNFINISHED: &str = ".void-wasm-";

/// How a file is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Permission bits of the file.
    pub(crate) file_mode: u32,
    /// Permission bits of folders made on the way.
    pub(crate) folder_mode: u32,
    /// Whether to return only when the disk has it.
    pub(crate) sync: bool,
}

/// Writes `parts` one after the other to `folder/name`: a reader sees the whole file or none, also after a crash.
pub(crate) fn write_atomic(
    folder: &Path,
    name: &str,
    parts: &[impl AsRef<[u8]>],
    how: Manner,
) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(how.folder_mode).create(folder)?;
    // Removed again when dropped before `persist`, so a full disk leaves no debris.
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .suffix(".tmp")
        .permissions(Permissions::from_mode(how.file_mode))
        .tempfile_in(folder)?;
    for part in parts {
        file.write_all(part.as_ref())?;
    }
    if how.sync {
        file.as_file().sync_all()?;
    }
    file.persist(folder.join(name)).map_err(|error| error.error)?;
    if how.sync {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::sha256;
    use std::os::unix::fs::symlink;

    const HOW: Manner = Manner { file_mode: 0o644, folder_mode: 0o755, sync: true };

    #[test]
    fn nothing_is_read_from_outside() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("in");
        write_atomic(&folder, "here", &[b"x"], HOW).unwrap();
        write_atomic(top.path(), "out", &[b"x"], HOW).unwrap();
        symlink("here", folder.join("inner")).unwrap();
        symlink("../out", folder.join("escape")).unwrap();
        symlink(top.path().join("out"), folder.join("absolute")).unwrap();
        symlink("loop", folder.join("loop")).unwrap();
        let read = |name: &str| read_whole(&folder, Path::new(name), 10).map(|(bytes, _)| bytes);
        assert_eq!(read("here"), Ok(b"x".to_vec()));
        assert_eq!(read("inner"), Ok(b"x".to_vec()));
        for name in ["escape", "absolute", "../out", "loop", "/etc/passwd"] {
            assert_eq!(read(name), Err(Trouble::LeadsOut), "{name}");
        }
        assert_eq!(read("none"), Err(Trouble::Absent));
        assert_eq!(read("here/below"), Err(Trouble::Absent));
    }

    #[test]
    fn pipes_and_folders_are_not_files() {
        let top = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&top.path().join("pipe"), Mode::S_IRWXU).unwrap();
        std::fs::create_dir(top.path().join("folder")).unwrap();
        for name in ["pipe", "folder"] {
            let read = read_verified(top.path(), Path::new(name), 10, &sha256(b""));
            assert_eq!(read.map(|_| ()), Err(Trouble::NotAFile), "{name}");
        }
    }

    #[test]
    fn a_write_replaces_and_leaves_nothing_else() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("a/b");
        write_atomic(&folder, "f", &[b"one".as_slice(), b"two"], HOW).unwrap();
        write_atomic(&folder, "f", &[b"three".as_slice()], HOW).unwrap();
        let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["f"]);
        assert!(read_verified(&folder, Path::new("f"), 5, &sha256(b"three")).is_ok());
        let cut = read_verified(&folder, Path::new("f"), 4, &sha256(b"three"));
        assert_eq!(cut.map(|_| ()), Err(Trouble::TooLarge));
    }
}
